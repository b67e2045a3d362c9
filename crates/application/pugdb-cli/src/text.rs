//! Bytes as text and back, without loss: what `scan` prints and `--escaped` reads. And sizes such as `1GiB`.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Appends `bytes` as printable text: `\t`, `\n`, `\r`, `\\`, and `\xNN` for every other byte that is not part of a
/// printable character of UTF-8. Safe for a terminal; [`unescape`] gives the bytes back.
pub(crate) fn escape_into(out: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => out.push_str("\\\\"),
                '\t' => out.push_str("\\t"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '"' | '\'' => out.push(character),
                _ if is_printable(character) => out.push(character),
                _ => escape_bytes(out, character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        escape_bytes(out, chunk.invalid());
    }
}

pub(crate) fn escaped(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    escape_into(&mut out, bytes);
    out
}

/// Control characters, marks that join the character before, and marks that turn the direction of text are not.
fn is_printable(character: char) -> bool {
    let mut shown = character.escape_debug();
    shown.next() == Some(character) && shown.next().is_none()
}

fn escape_bytes(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(out, "\\x{byte:02x}");
    }
}

/// The bytes that [`escape_into`] made this text of.
pub(crate) fn unescape(text: &[u8]) -> Result<Vec<u8>, &'static str> {
    const BAD: &str = "a backslash is followed by one of \\ t n r or by x and two hexadecimal digits";
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(&byte) = rest.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        out.push(match rest.next() {
            Some(b'\\') => b'\\',
            Some(b't') => b'\t',
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b'x') => {
                let digits =
                    [rest.next(), rest.next()].map(|digit| digit.and_then(|&digit| hex_digit(digit)));
                let [Some(high), Some(low)] = digits else { return Err(BAD) };
                high << 4 | low
            }
            _ => return Err(BAD),
        });
    }
    Ok(out)
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Lowercase hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// The bytes of hexadecimal digits of either case.
pub(crate) fn unhex(text: &[u8]) -> Result<Vec<u8>, &'static str> {
    const BAD: &str = "it is not hexadecimal: two digits of 0-9 a-f a byte, and nothing between";
    let (pairs, rest) = text.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(BAD);
    }
    pairs
        .iter()
        .map(|&[high, low]| Some(hex_digit(high)? << 4 | hex_digit(low)?))
        .collect::<Option<_>>()
        .ok_or(BAD)
}

/// The bytes of base64.
pub(crate) fn unbase64(text: &[u8]) -> Result<Vec<u8>, &'static str> {
    STANDARD.decode(text).map_err(|_| "it is not base64 (standard alphabet, padded)")
}

/// Base64, standard alphabet, padded.
pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A number of bytes: digits, and optionally `KiB`, `MiB`, `GiB`, `TiB` (powers of 1024) or `KB`, `MB`, `GB`, `TB`
/// (powers of 1000).
pub(crate) fn parse_size(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|character: char| !character.is_ascii_digit());
    let unit: usize = match text[digits.len()..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" | "k" => 1 << 10,
        "mib" | "m" => 1 << 20,
        "gib" | "g" => 1 << 30,
        "tib" | "t" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err("a size is a number with an optional unit: 4096, 64MiB, 1GiB, 2GB".to_owned()),
    };
    let number: usize = digits.parse().map_err(|_| "a size starts with a whole number: 64MiB".to_owned())?;
    number.checked_mul(unit).ok_or_else(|| "the size does not fit into 64 bits".to_owned())
}

/// A size for people: `812 B`, `1.5 MiB`.
#[expect(clippy::cast_precision_loss, reason = "one digit behind the point is shown")]
pub(crate) fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// `1 entry`, `2 entries`.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_string_comes_back_from_its_text() {
        let all: Vec<u8> = (0..=255).collect();
        let cases: [&[u8]; 6] = [
            b"",
            b"plain text",
            b"a\\b\tc\nd\re\0f",
            "größe 東京 \u{202e}abc \u{301}".as_bytes(),
            b"\xff\xfe\xc3",
            &all,
        ];
        for bytes in cases {
            let text = escaped(bytes);
            assert_eq!(unescape(text.as_bytes()).unwrap(), bytes, "{text}");
        }
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..1_000 {
            let bytes: Vec<u8> = (0..random.usize(..40)).map(|_| random.u8(..)).collect();
            assert_eq!(unescape(escaped(&bytes).as_bytes()).unwrap(), bytes, "{bytes:?}");
        }
    }

    #[test]
    fn the_text_is_readable_and_harmless() {
        assert_eq!(escaped("größe 'x' \"y\"".as_bytes()), "größe 'x' \"y\"");
        assert_eq!(escaped(b"a\tb\nc\\d"), r"a\tb\nc\\d");
        assert_eq!(escaped(b"\x1b[31m\xff"), r"\x1b[31m\xff");
        assert_eq!(escaped("\u{202e}".as_bytes()), r"\xe2\x80\xae");
    }

    #[test]
    fn a_broken_escape_is_refused() {
        for text in [r"\", r"\q", r"\x", r"\x1", r"\xg0"] {
            assert!(unescape(text.as_bytes()).unwrap_err().contains("backslash"), "{text}");
        }
    }

    #[test]
    fn hexadecimal_and_base64_come_back_and_what_is_none_is_refused() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unhex(hex(&all).as_bytes()).unwrap(), all);
        assert_eq!(unhex(b"fF0a").unwrap(), [0xff, 0x0a]);
        assert_eq!(unbase64(base64(&all).as_bytes()).unwrap(), all);
        for text in ["f", "0g", "0x00", "00 00"] {
            assert!(unhex(text.as_bytes()).unwrap_err().contains("hexadecimal"), "{text}");
        }
        for text in ["a", "YQ", "Y Q=", "-_=="] {
            assert!(unbase64(text.as_bytes()).unwrap_err().contains("base64"), "{text}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("64MiB"), Ok(64 << 20));
        assert_eq!(parse_size("1 gib"), Ok(1 << 30));
        assert_eq!(parse_size("2GB"), Ok(2_000_000_000));
        for text in ["", "GiB", "1XB", "-1", "1.5GiB", "99999999999TiB", "ä", "1ä"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        assert_eq!(human_bytes(812), "812 B");
        assert_eq!(human_bytes(1_572_864), "1.5 MiB");
    }
}
