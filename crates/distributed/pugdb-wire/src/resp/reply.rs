//! A reply: one value of RESP2 or RESP3, redacted by type.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

/// Which version of RESP a connection speaks. It starts with version 2 and changes with `HELLO 3`.
///
/// ```
/// use pugdb_wire::resp::Protocol;
///
/// assert_eq!(Protocol::default(), Protocol::Resp2);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Protocol {
    /// RESP2: strings, errors, integers, arrays and two kinds of null.
    #[default]
    Resp2,
    /// RESP3: everything in [`Reply`].
    Resp3,
}

/// One value that a server sends: an answer, or a part of one.
///
/// All types of RESP3 are here, whatever the connection speaks; [`encode`](Self::encode) shows them to a RESP2
/// client as Redis does. `Debug` prints types and lengths, never a user's bytes or numbers; a text that is part of
/// the program is printed.
///
/// ```
/// use bytes::BytesMut;
/// use pugdb_wire::resp::{Protocol, Reply};
///
/// let reply = Reply::Map(vec![(Reply::Bulk("age".into()), Reply::Integer(3))]);
/// let (mut resp2, mut resp3) = (BytesMut::new(), BytesMut::new());
/// reply.encode(Protocol::Resp2, &mut resp2);
/// reply.encode(Protocol::Resp3, &mut resp3);
/// assert_eq!(resp2, "*2\r\n$3\r\nage\r\n:3\r\n");
/// assert_eq!(resp3, "%1\r\n$3\r\nage\r\n:3\r\n");
/// ```
#[derive(Clone, PartialEq)]
pub enum Reply {
    /// A short text without line ends, such as `OK`.
    Simple(Cow<'static, str>),
    /// An error: a word in capitals for programs, then a sentence for people, such as `ERR no such key`.
    Error(Cow<'static, str>),
    /// A 64-bit number.
    Integer(i64),
    /// A string of bytes.
    Bulk(Bytes),
    /// There is no such value.
    Null,
    /// There is no such array: RESP2 tells it from [`Null`](Self::Null), RESP3 does not.
    NullArray,
    /// Values in an order.
    Array(Vec<Reply>),
    /// RESP3: pairs of key and value. RESP2: an array of both in turn.
    Map(Vec<(Reply, Reply)>),
    /// RESP3: values without an order. RESP2: an array.
    Set(Vec<Reply>),
    /// RESP3: a floating point number. RESP2: a string.
    Double(f64),
    /// RESP3: true or false. RESP2: 1 or 0.
    Boolean(bool),
    /// RESP3: the decimal digits of a number of any size. RESP2: a string.
    BigNumber(Cow<'static, str>),
    /// RESP3: a text for people that says what it is. RESP2: a string.
    Verbatim {
        /// `txt` for plain text, `mkd` for Markdown.
        format: [u8; 3],
        /// The text itself.
        text: Bytes,
    },
    /// RESP3: what the client has not asked for, such as a message of a channel. RESP2: an array.
    Push(Vec<Reply>),
}

impl Reply {
    /// `OK`.
    ///
    /// ```
    /// use pugdb_wire::resp::Reply;
    ///
    /// assert_eq!(Reply::OK, Reply::simple("OK"));
    /// ```
    pub const OK: Self = Self::Simple(Cow::Borrowed("OK"));

    /// A [`Simple`](Self::Simple) text.
    ///
    /// ```
    /// use pugdb_wire::resp::Reply;
    ///
    /// assert_eq!(Reply::simple("PONG"), Reply::Simple("PONG".into()));
    /// ```
    pub fn simple(text: impl Into<Cow<'static, str>>) -> Self {
        Self::Simple(text.into())
    }

    /// An [`Error`](Self::Error): first the word for programs, then the sentence for people.
    ///
    /// ```
    /// use pugdb_wire::resp::Reply;
    ///
    /// assert_eq!(Reply::error("ERR syntax error"), Reply::Error("ERR syntax error".into()));
    /// ```
    pub fn error(message: impl Into<Cow<'static, str>>) -> Self {
        Self::Error(message.into())
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Simple(text) => debug_text(f, "Simple", text),
            Self::Error(message) => debug_text(f, "Error", message),
            // A number may be what a user stored.
            Self::Integer(_) => f.write_str("Integer(..)"),
            Self::Bulk(bytes) => write!(f, "Bulk({} bytes)", bytes.len()),
            Self::Null => f.write_str("Null"),
            Self::NullArray => f.write_str("NullArray"),
            Self::Array(values) => write!(f, "Array({} values)", values.len()),
            Self::Map(pairs) => write!(f, "Map({} pairs)", pairs.len()),
            Self::Set(values) => write!(f, "Set({} values)", values.len()),
            Self::Double(_) => f.write_str("Double(..)"),
            Self::Boolean(_) => f.write_str("Boolean(..)"),
            Self::BigNumber(digits) => write!(f, "BigNumber({} bytes)", digits.len()),
            Self::Verbatim { text, .. } => write!(f, "Verbatim({} bytes)", text.len()),
            Self::Push(values) => write!(f, "Push({} values)", values.len()),
        }
    }
}

/// A borrowed text lives as long as the program: it is the program's own. An owned one may quote a user.
#[expect(clippy::ptr_arg, reason = "whether it is borrowed is what this looks at")]
fn debug_text(f: &mut fmt::Formatter<'_>, kind: &str, text: &Cow<'static, str>) -> fmt::Result {
    match text {
        Cow::Borrowed(text) => write!(f, "{kind}({text:?})"),
        Cow::Owned(text) => write!(f, "{kind}({} bytes)", text.len()),
    }
}
