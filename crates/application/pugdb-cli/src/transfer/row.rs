//! A line of JSONL to an entry and back: `{"key":"ada","value":"1815"}`.

use std::fmt;
use std::io::{self, Write};

use base64::Engine as _;
use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// An entry as a line says it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    pub(super) expires_at_ms: Option<u64>,
    pub(super) meta: u8,
}

/// What is wrong with a line, without a byte of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RowError {
    Syntax { column: usize },
    Shape { column: usize },
    Missing { text: &'static str, base64: &'static str },
    Both { text: &'static str, base64: &'static str },
    Base64 { field: &'static str },
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax { column } => write!(f, "not valid JSON in UTF-8 at column {column}"),
            Self::Shape { column } => write!(
                f,
                "at column {column}: a line is an object with the strings key or key_base64, value or value_base64, \
                 optionally the numbers expires_at_ms and meta (0 to 255), each once, and nothing else"
            ),
            Self::Missing { text, base64 } => write!(f, "{text} or {base64} is missing"),
            Self::Both { text, base64 } => write!(f, "both {text} and {base64} are there"),
            Self::Base64 { field } => write!(f, "{field} is not base64 (standard alphabet, padded)"),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    key: Option<String>,
    key_base64: Option<String>,
    value: Option<String>,
    value_base64: Option<String>,
    expires_at_ms: Option<u64>,
    meta: Option<u8>,
}

impl Row {
    pub(super) fn parse(line: &[u8]) -> Result<Self, RowError> {
        // The error of the parser quotes what it read, so only its place is kept.
        let line: Line = serde_json::from_slice(line).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => RowError::Shape { column: error.column() },
            _ => RowError::Syntax { column: error.column() },
        })?;
        Ok(Self {
            key: one_of(["key", "key_base64"], line.key, line.key_base64)?,
            value: one_of(["value", "value_base64"], line.value, line.value_base64)?,
            expires_at_ms: line.expires_at_ms,
            meta: line.meta.unwrap_or(0),
        })
    }
}

fn one_of(
    [text_name, base64_name]: [&'static str; 2],
    text: Option<String>,
    base64: Option<String>,
) -> Result<Vec<u8>, RowError> {
    match (text, base64) {
        (Some(text), None) => Ok(text.into_bytes()),
        (None, Some(base64)) => STANDARD.decode(base64).map_err(|_| RowError::Base64 { field: base64_name }),
        (None, None) => Err(RowError::Missing { text: text_name, base64: base64_name }),
        (Some(_), Some(_)) => Err(RowError::Both { text: text_name, base64: base64_name }),
    }
}

/// An entry to be written as a line.
pub(crate) struct RowRef<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) expires_at_ms: Option<u64>,
    pub(crate) meta: u8,
}

impl RowRef<'_> {
    /// Writes the line, its end included. Nothing of it is built in memory first.
    pub(crate) fn write(&self, mut out: &mut (impl Write + ?Sized)) -> io::Result<()> {
        if let (Ok(key), Ok(value)) = (std::str::from_utf8(self.key), std::str::from_utf8(self.value)) {
            out.write_all(b"{\"key\":")?;
            serde_json::to_writer(&mut out, key)?;
            out.write_all(b",\"value\":")?;
            serde_json::to_writer(&mut out, value)?;
        } else {
            let [key, value] = [self.key, self.value].map(|bytes| Base64Display::new(bytes, &STANDARD));
            write!(out, "{{\"key_base64\":\"{key}\",\"value_base64\":\"{value}\"")?;
        }
        if let Some(at) = self.expires_at_ms {
            write!(out, ",\"expires_at_ms\":{at}")?;
        }
        if self.meta != 0 {
            write!(out, ",\"meta\":{}", self.meta)?;
        }
        out.write_all(b"}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(key: &[u8], value: &[u8], expires_at_ms: Option<u64>, meta: u8) -> String {
        let mut out = Vec::new();
        RowRef { key, value, expires_at_ms, meta }.write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_stays_text_and_bytes_become_base64() {
        assert_eq!(written(b"ada", b"1815", None, 0), "{\"key\":\"ada\",\"value\":\"1815\"}\n");
        assert_eq!(
            written("k\n\"ü".as_bytes(), b"", Some(7), 0),
            "{\"key\":\"k\\n\\\"ü\",\"value\":\"\",\"expires_at_ms\":7}\n"
        );
        assert_eq!(
            written(b"ada", b"\xff", None, 3),
            "{\"key_base64\":\"YWRh\",\"value_base64\":\"/w==\",\"meta\":3}\n"
        );
    }

    #[test]
    fn every_entry_comes_back_from_its_line() {
        let mut random = fastrand::Rng::with_seed(11);
        for round in 0..2_000 {
            let mut bytes = |ascii: bool| -> Vec<u8> {
                (0..random.usize(..30))
                    .map(|_| if ascii { random.u8(..128) } else { random.u8(..) })
                    .collect()
            };
            let row = Row {
                key: bytes(round % 3 != 0),
                value: bytes(round % 2 != 0),
                expires_at_ms: (round % 5 == 0).then(|| random.u64(..)),
                meta: random.u8(..3),
            };
            let line = written(&row.key, &row.value, row.expires_at_ms, row.meta);
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            assert_eq!(Row::parse(line.as_bytes()).unwrap(), row, "{line}");
        }
    }

    #[test]
    fn text_and_base64_may_be_mixed_and_null_is_absent() {
        let row = Row::parse(br#" {"value_base64":"AAE=","key":"a\u00e9","expires_at_ms":null} "#).unwrap();
        assert_eq!(row, Row { key: "aé".into(), value: vec![0, 1], ..Row::default() });
    }

    #[test]
    fn a_wrong_line_is_described_without_its_content() {
        let cases: [(&[u8], &str); 14] = [
            (b"", "not valid JSON"),
            (b"secret", "not valid JSON"),
            (br#"{"key":"secret","value":"secret""#, "not valid JSON"),
            (br#"{"key":"secret","value":"secret"} {}"#, "not valid JSON"),
            (b"{\"key\":\"secret\",\"value\":\"secret\xff\"}", "not valid JSON"),
            (br#"["secret"]"#, "a line is an object"),
            (br#"{"key":"secret","value":1}"#, "a line is an object"),
            (br#"{"key":"secret","value":"secret","secret":1}"#, "a line is an object"),
            (br#"{"key":"secret","key":"secret","value":""}"#, "a line is an object"),
            (br#"{"key":"secret","value":"","expires_at_ms":-1}"#, "a line is an object"),
            (br#"{"key":"secret","value":"","expires_at_ms":"secret"}"#, "a line is an object"),
            (br#"{"key":"secret"}"#, "value or value_base64 is missing"),
            (br#"{"key":"secret","key_base64":"","value":""}"#, "both key and key_base64"),
            (br#"{"key":"secret","value_base64":"secret"}"#, "value_base64 is not base64"),
        ];
        for (line, expected) in cases {
            let message = Row::parse(line).unwrap_err().to_string();
            assert!(message.contains(expected) && !message.contains("secret"), "{message}");
        }
    }
}
