//! The first line of a value in a reply, which holds all of the value or says how much follows.

use std::borrow::Cow;

use super::line::parse_length;
use super::{ProtocolError, Reply, ReplyLimits};

/// What a line of a reply says.
pub(super) enum Header<'a> {
    /// The line is the value.
    Scalar(Scalar<'a>),
    /// So many bytes and CR LF follow.
    Blob(Blob, usize),
    /// So many values follow; a pair counts as two.
    Aggregate(Aggregate, usize),
}

/// A value that fits on its line, checked but not copied.
pub(super) enum Scalar<'a> {
    Simple(&'a [u8]),
    Error(&'a [u8]),
    Integer(i64),
    Double(f64),
    Boolean(bool),
    BigNumber(&'a str),
    Null,
    NullArray,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blob {
    Bulk,
    Error,
    Verbatim,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aggregate {
    Array,
    Map,
    Set,
    Push,
    /// What is said about the value behind it; read and dropped.
    Attribute,
}

impl<'a> Header<'a> {
    /// Reads a line without its CR LF.
    pub(super) fn parse(line: &'a [u8], limits: &ReplyLimits) -> Result<Self, ProtocolError> {
        let (&kind, text) = line.split_first().ok_or(ProtocolError::UnknownReplyType)?;
        match kind {
            b'$' if text == b"-1" => Ok(Self::Scalar(Scalar::Null)),
            b'*' if text == b"-1" => Ok(Self::Scalar(Scalar::NullArray)),
            b'$' => Ok(Self::Blob(Blob::Bulk, length(text, limits.bulk_bytes_max)?)),
            // An error is text for people: what does not fit on a line is no error message.
            b'!' => Ok(Self::Blob(Blob::Error, length(text, limits.line_bytes_max)?)),
            b'=' => Ok(Self::Blob(Blob::Verbatim, length(text, limits.bulk_bytes_max)?)),
            b'*' => Ok(Self::Aggregate(Aggregate::Array, length(text, limits.elements_max)?)),
            b'~' => Ok(Self::Aggregate(Aggregate::Set, length(text, limits.elements_max)?)),
            b'>' => Ok(Self::Aggregate(Aggregate::Push, length(text, limits.elements_max)?)),
            b'%' => Ok(Self::Aggregate(Aggregate::Map, 2 * length(text, limits.elements_max / 2)?)),
            b'|' => Ok(Self::Aggregate(Aggregate::Attribute, 2 * length(text, limits.elements_max / 2)?)),
            _ => Scalar::parse(kind, text).map(Self::Scalar),
        }
    }
}

impl<'a> Scalar<'a> {
    fn parse(kind: u8, text: &'a [u8]) -> Result<Self, ProtocolError> {
        let scalar = match (kind, text) {
            (b'+', _) => Some(Self::Simple(text)),
            (b'-', _) => Some(Self::Error(text)),
            (b':', _) => number(text).map(Self::Integer),
            (b',', _) => number(text).map(Self::Double),
            (b'(', _) => big_number(text).map(Self::BigNumber),
            (b'#', b"t") => Some(Self::Boolean(true)),
            (b'#', b"f") => Some(Self::Boolean(false)),
            (b'_', b"") => Some(Self::Null),
            (b'#' | b'_', _) => None,
            _ => return Err(ProtocolError::UnknownReplyType),
        };
        scalar.ok_or(ProtocolError::InvalidReplyValue)
    }

    pub(super) fn to_reply(&self) -> Reply {
        match *self {
            Self::Simple(text) => Reply::Simple(owned_text(text)),
            Self::Error(message) => Reply::Error(owned_text(message)),
            Self::Integer(number) => Reply::Integer(number),
            Self::Double(number) => Reply::Double(number),
            Self::Boolean(boolean) => Reply::Boolean(boolean),
            Self::BigNumber(digits) => Reply::BigNumber(Cow::Owned(digits.to_owned())),
            Self::Null => Reply::Null,
            Self::NullArray => Reply::NullArray,
        }
    }
}

/// A text of the server. It may quote a user, who may have sent anything: what is not UTF-8 is replaced.
pub(super) fn owned_text(text: &[u8]) -> Cow<'static, str> {
    Cow::Owned(String::from_utf8_lossy(text).into_owned())
}

fn length(digits: &[u8], max: usize) -> Result<usize, ProtocolError> {
    parse_length(digits)
        .and_then(|length| usize::try_from(length).ok())
        .filter(|&length| length <= max)
        .ok_or(ProtocolError::InvalidReplyLength)
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    str::from_utf8(text).ok()?.parse().ok()
}

fn big_number(text: &[u8]) -> Option<&str> {
    let digits = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
    let valid = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    if valid { str::from_utf8(text).ok() } else { None }
}
