//! Inline commands: what a person types into telnet, split into words by the quoting rules of Redis.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::ProtocolError;

/// Splits a line into words. Words stand between spaces. `"..."` keeps spaces and knows `\n \r \t \b \a \xHH` and
/// `\` before any other byte as that byte; `'...'` keeps everything but `\'`. A quote ends its word.
pub(super) fn split(line: &[u8], words_max: usize) -> Result<Vec<Bytes>, ProtocolError> {
    // Taking quotes away never makes a line longer.
    let mut text = BytesMut::with_capacity(line.len());
    let mut words: Vec<Range<usize>> = Vec::new();
    let mut rest = skip_spaces(line);
    while !rest.is_empty() {
        if words.len() >= words_max {
            return Err(ProtocolError::TooBigInline);
        }
        let start = text.len();
        rest = skip_spaces(word(rest, &mut text)?);
        words.push(start..text.len());
    }
    let text = text.freeze();
    Ok(words.into_iter().map(|word| text.slice(word)).collect())
}

/// Appends the first word of `rest` to `text`; what follows the word is returned.
fn word<'a>(mut rest: &'a [u8], text: &mut BytesMut) -> Result<&'a [u8], ProtocolError> {
    loop {
        rest = match rest {
            [] | [b' ' | b'\t' | b'\r', ..] => return Ok(rest),
            [b'"', after @ ..] => return double_quoted(after, text),
            [b'\'', after @ ..] => return single_quoted(after, text),
            [byte, after @ ..] => push(text, *byte, after),
        };
    }
}

fn double_quoted<'a>(mut rest: &'a [u8], text: &mut BytesMut) -> Result<&'a [u8], ProtocolError> {
    loop {
        rest = match rest {
            [] => return Err(ProtocolError::UnbalancedQuotes),
            [b'"', after @ ..] => return closed(after),
            [b'\\', b'x', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                push(text, hex(*high) << 4 | hex(*low), after)
            }
            [b'\\', escaped, after @ ..] => push(text, unescaped(*escaped), after),
            [byte, after @ ..] => push(text, *byte, after),
        };
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], text: &mut BytesMut) -> Result<&'a [u8], ProtocolError> {
    loop {
        rest = match rest {
            [] => return Err(ProtocolError::UnbalancedQuotes),
            [b'\'', after @ ..] => return closed(after),
            [b'\\', b'\'', after @ ..] => push(text, b'\'', after),
            [byte, after @ ..] => push(text, *byte, after),
        };
    }
}

/// What follows a closing quote is a space or the end.
fn closed(after: &[u8]) -> Result<&[u8], ProtocolError> {
    match after.first() {
        Some(&next) if !is_space(next) => Err(ProtocolError::UnbalancedQuotes),
        _ => Ok(after),
    }
}

fn push<'a>(text: &mut BytesMut, byte: u8, after: &'a [u8]) -> &'a [u8] {
    text.extend_from_slice(&[byte]);
    after
}

fn unescaped(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => 0,
    }
}

fn skip_spaces(line: &[u8]) -> &[u8] {
    let spaces = line.iter().take_while(|&&byte| is_space(byte)).count();
    line.get(spaces..).unwrap_or_default()
}

/// `isspace` of C in the C locale.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}
