//! Reading arguments the way Redis reads them.

use bytes::Bytes;

use crate::failure::Failure;

/// A 64-bit number as Redis writes it: no plus, no spaces, no leading zeros, no `-0`.
pub(crate) fn integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = match digits {
        [b'0'] => digits.len() == text.len(),
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if canonical { std::str::from_utf8(text).ok()?.parse().ok() } else { None }
}

/// A number where the command needs one.
pub(crate) fn need_integer(text: &[u8]) -> Result<i64, Failure> {
    integer(text).ok_or(Failure::NOT_AN_INTEGER)
}

/// Whether an argument is this word, in whatever case.
pub(crate) fn is(argument: &[u8], word: &str) -> bool {
    argument.eq_ignore_ascii_case(word.as_bytes())
}

/// The argument at a place that the arity promises.
pub(crate) fn at(arguments: &[Bytes], index: usize) -> Result<&Bytes, Failure> {
    arguments.get(index).ok_or(Failure::SYNTAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_strictly_as_redis_reads_them() {
        for (text, number) in [("0", 0), ("7", 7), ("-12", -12), ("9223372036854775807", i64::MAX)] {
            assert_eq!(integer(text.as_bytes()), Some(number));
        }
        assert_eq!(integer(b"-9223372036854775808"), Some(i64::MIN));
        for text in
            ["", "-", "+1", "-0", "00", "01", " 1", "1 ", "1.0", "0x1", "9223372036854775808", "\u{663}"]
        {
            assert_eq!(integer(text.as_bytes()), None, "{text:?}");
        }
    }
}
