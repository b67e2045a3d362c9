//! Replies of a server as `redis-cli` shows them, and as JSON. Pure.

use std::fmt::Write as _;

use pugdb_wire::resp::Reply;
use serde_json::{Map, Value, json};

/// A reply as `redis-cli` prints it on a terminal, without the last line end.
pub(super) fn render(reply: &Reply) -> String {
    let mut out = String::new();
    put(&mut out, reply, "");
    out
}

fn put(out: &mut String, reply: &Reply, indent: &str) {
    match reply {
        Reply::Simple(text) => out.push_str(&crate::text::escaped(text.as_bytes())),
        Reply::Error(text) => {
            let _ = write!(out, "(error) {}", crate::text::escaped(text.as_bytes()));
        }
        Reply::Integer(number) => {
            let _ = write!(out, "(integer) {number}");
        }
        Reply::Double(number) => {
            let _ = write!(out, "(double) {number}");
        }
        Reply::BigNumber(digits) => {
            let _ = write!(out, "(big number) {digits}");
        }
        Reply::Boolean(is) => out.push_str(if *is { "(true)" } else { "(false)" }),
        Reply::Null | Reply::NullArray => out.push_str("(nil)"),
        Reply::Bulk(bytes) => put_quoted(out, bytes),
        // A text for people: its line ends are meant.
        Reply::Verbatim { text, .. } => {
            let lines = text.split(|&byte| byte == b'\n').map(crate::text::escaped);
            out.push_str(lines.collect::<Vec<_>>().join("\n").trim_end());
        }
        Reply::Array(items) if items.is_empty() => out.push_str("(empty array)"),
        Reply::Set(items) if items.is_empty() => out.push_str("(empty set)"),
        Reply::Push(items) if items.is_empty() => out.push_str("(empty push)"),
        Reply::Map(pairs) if pairs.is_empty() => out.push_str("(empty hash)"),
        Reply::Array(items) | Reply::Push(items) => {
            put_list(out, indent, items.len(), ')', |out, number, indent| put(out, &items[number], indent));
        }
        Reply::Set(items) => {
            put_list(out, indent, items.len(), '~', |out, number, indent| put(out, &items[number], indent));
        }
        Reply::Map(pairs) => put_list(out, indent, pairs.len(), '#', |out, number, indent| {
            put(out, &pairs[number].0, indent);
            out.push_str(" => ");
            put(out, &pairs[number].1, indent);
        }),
    }
}

/// Numbered lines; what is within them is indented by the width of the number.
fn put_list(
    out: &mut String,
    indent: &str,
    count: usize,
    mark: char,
    mut one: impl FnMut(&mut String, usize, &str),
) {
    let width = count.to_string().len();
    let inner = format!("{indent}{}", " ".repeat(width + 2));
    for number in 0..count {
        if number > 0 {
            out.push('\n');
            out.push_str(indent);
        }
        let _ = write!(out, "{:>width$}{mark} ", number + 1);
        one(out, number, &inner);
    }
}

/// As `redis-cli`: every byte that is not printable ASCII is an escape.
pub(super) fn put_quoted(out: &mut String, bytes: &[u8]) {
    out.push('"');
    for &byte in bytes {
        match byte {
            b'\\' => out.push_str("\\\\"),
            b'"' => out.push_str("\\\""),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x07 => out.push_str("\\a"),
            0x08 => out.push_str("\\b"),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
    }
    out.push('"');
}

/// A reply as JSON. Bytes that are not UTF-8 become `{"base64": …}`, an error `{"error": …}`.
pub(super) fn to_json(reply: &Reply) -> Value {
    match reply {
        Reply::Simple(text) | Reply::BigNumber(text) => Value::from(text.as_ref()),
        Reply::Error(text) => json!({ "error": text }),
        Reply::Integer(number) => Value::from(*number),
        Reply::Double(number) => {
            serde_json::Number::from_f64(*number).map_or_else(|| number.to_string().into(), Value::from)
        }
        Reply::Boolean(is) => Value::from(*is),
        Reply::Null | Reply::NullArray => Value::Null,
        Reply::Bulk(bytes) | Reply::Verbatim { text: bytes, .. } => match std::str::from_utf8(bytes) {
            Ok(text) => Value::from(text),
            Err(_) => json!({ "base64": crate::text::base64(bytes) }),
        },
        Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => items.iter().map(to_json).collect(),
        Reply::Map(pairs) => {
            let mut object = Map::new();
            for (key, value) in pairs {
                let name = to_json(key);
                let name = name.as_str().map_or_else(|| name.to_string(), str::to_owned);
                object.insert(name, to_json(value));
            }
            Value::Object(object)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(bytes: &'static [u8]) -> Reply {
        Reply::Bulk(bytes.into())
    }

    #[test]
    fn replies_look_as_in_redis_cli() {
        let nested = Reply::Array(vec![
            bulk(b"a"),
            Reply::Array(vec![Reply::Integer(1), Reply::Null]),
            Reply::Array(Vec::new()),
        ]);
        let ten = Reply::Array(vec![Reply::Integer(7); 10]);
        for (reply, text) in [
            (Reply::OK, "OK"),
            (Reply::Error("ERR no".into()), "(error) ERR no"),
            (Reply::Integer(-3), "(integer) -3"),
            (Reply::Null, "(nil)"),
            (bulk(b"a \"b\"\\\n\x07\xc3\xa4\x00"), r#""a \"b\"\\\n\a\xc3\xa4\x00""#),
            (Reply::Array(Vec::new()), "(empty array)"),
            (nested, "1) \"a\"\n2) 1) (integer) 1\n   2) (nil)\n3) (empty array)"),
            (Reply::Map(vec![(bulk(b"k"), Reply::Boolean(true))]), "1# \"k\" => (true)"),
            (Reply::Verbatim { format: *b"txt", text: "a:1\r\nb\x1b".into() }, "a:1\\r\nb\\x1b"),
        ] {
            assert_eq!(render(&reply), text);
        }
        let text = render(&ten);
        assert!(text.starts_with(" 1) (integer) 7\n 2) ") && text.ends_with("\n10) (integer) 7"), "{text}");
    }

    #[test]
    fn replies_as_json() {
        let reply = Reply::Array(vec![Reply::OK, Reply::Integer(1), Reply::Null, bulk(b"\xff")]);
        assert_eq!(to_json(&reply).to_string(), r#"["OK",1,null,{"base64":"/w=="}]"#);
        let map = Reply::Map(vec![(bulk(b"a"), Reply::Double(1.5)), (Reply::Integer(2), bulk(b"b"))]);
        assert_eq!(to_json(&map).to_string(), r#"{"2":"b","a":1.5}"#);
        assert_eq!(to_json(&Reply::Error("ERR no".into())).to_string(), r#"{"error":"ERR no"}"#);
    }
}
