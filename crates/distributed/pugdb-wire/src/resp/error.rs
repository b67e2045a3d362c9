//! What a peer can do wrong, in the words of Redis and without the peer's bytes.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use super::Reply;

/// The bytes are not RESP, or more of it than the limits allow. The connection cannot be used any longer: where
/// the next message starts is unknown.
///
/// The texts are those of Redis where Redis has one, because clients and their tests look for them. None repeats
/// what was received, with the one exception that Redis makes: a single character.
///
/// ```
/// use pugdb_wire::resp::ProtocolError;
///
/// assert_eq!(ProtocolError::InvalidBulkLength.to_string(), "Protocol error: invalid bulk length");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The number after `*` is not a number, or above the limit of arguments.
    InvalidMultibulkLength,
    /// The number after `$` is not a number, is negative, or above the limit of one string.
    InvalidBulkLength,
    /// An argument does not start with `$`.
    ExpectedBulk {
        /// What stands there instead, `?` if that is not printable ASCII.
        got: char,
    },
    /// A line or a string does not end with CR LF.
    ExpectedCrlf,
    /// An inline command is longer than a line may be, or has too many words.
    TooBigInline,
    /// The line after `*` does not end within the limit.
    TooBigMultibulkCount,
    /// The line after `$` does not end within the limit.
    TooBigBulkCount,
    /// A quote of an inline command is not closed, or is followed by something else than a space.
    UnbalancedQuotes,
    /// A command is larger as a whole than the limit.
    TooBigCommand,
    /// A reply starts with a byte that names no type of RESP2 or RESP3.
    UnknownReplyType,
    /// A number, a boolean, a null or a verbatim string in a reply does not look like one.
    InvalidReplyValue,
    /// The length of a string or an aggregate in a reply is not a number, is negative, or above the limit.
    InvalidReplyLength,
    /// A line of a reply does not end within the limit.
    TooBigReplyLine,
    /// A reply is larger as a whole than the limit.
    TooBigReply,
    /// A reply has more aggregates inside one another than the limit.
    TooDeepReply,
}

impl ProtocolError {
    /// What a server answers before it closes the connection.
    ///
    /// ```
    /// use pugdb_wire::resp::{ProtocolError, Reply};
    ///
    /// let reply = ProtocolError::UnbalancedQuotes.to_reply();
    /// assert_eq!(reply, Reply::error("ERR Protocol error: unbalanced quotes in request"));
    /// ```
    pub fn to_reply(self) -> Reply {
        Reply::Error(Cow::Owned(format!("ERR {self}")))
    }

    /// A byte that stands where `$` should: shown if it can do no harm in a log or a terminal.
    pub(super) fn expected_bulk(got: u8) -> Self {
        Self::ExpectedBulk { got: if matches!(got, b' '..=b'~') { char::from(got) } else { '?' } }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Protocol error: ")?;
        f.write_str(match self {
            Self::ExpectedBulk { got } => return write!(f, "expected '$', got '{got}'"),
            Self::InvalidMultibulkLength => "invalid multibulk length",
            Self::InvalidBulkLength => "invalid bulk length",
            Self::ExpectedCrlf => "expected CRLF",
            Self::TooBigInline => "too big inline request",
            Self::TooBigMultibulkCount => "too big mbulk count string",
            Self::TooBigBulkCount => "too big bulk count string",
            Self::UnbalancedQuotes => "unbalanced quotes in request",
            Self::TooBigCommand => "too big command",
            Self::UnknownReplyType => "unknown reply type",
            Self::InvalidReplyValue => "invalid value in reply",
            Self::InvalidReplyLength => "invalid length in reply",
            Self::TooBigReplyLine => "too big line in reply",
            Self::TooBigReply => "too big reply",
            Self::TooDeepReply => "too deep reply",
        })
    }
}

impl Error for ProtocolError {}
