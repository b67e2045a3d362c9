//! A request: the arguments of one command, redacted by type.

use std::fmt;

use bytes::Bytes;

/// One command as the client sent it: its name and what follows, at least one argument.
///
/// The arguments are slices of the buffer they arrived in and keep all of it alive. Who holds one for longer than
/// the command runs copies it. `Debug` prints lengths, never bytes.
///
/// ```
/// use bytes::BytesMut;
/// use pugdb_wire::resp::{Limits, RequestDecoder};
///
/// let mut decoder = RequestDecoder::new(Limits::default());
/// let request = decoder.decode(&mut BytesMut::from("SET pug secret\r\n"))?.expect("a whole line");
/// assert_eq!(request.arguments(), ["SET", "pug", "secret"]);
/// assert_eq!(format!("{request:?}"), "Request[3 bytes, 3 bytes, 6 bytes]");
/// # Ok::<(), pugdb_wire::resp::ProtocolError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    arguments: Vec<Bytes>,
}

impl Request {
    pub(super) fn new(arguments: Vec<Bytes>) -> Self {
        debug_assert!(!arguments.is_empty(), "empty commands are skipped by the decoder");
        Self { arguments }
    }

    /// The arguments, the name of the command first.
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use pugdb_wire::resp::{Limits, RequestDecoder};
    /// # let mut decoder = RequestDecoder::new(Limits::default());
    /// let request = decoder.decode(&mut BytesMut::from("*1\r\n$4\r\nPING\r\n"))?.expect("a whole command");
    /// assert_eq!(request.arguments(), ["PING"]);
    /// # Ok::<(), pugdb_wire::resp::ProtocolError>(())
    /// ```
    pub fn arguments(&self) -> &[Bytes] {
        &self.arguments
    }

    /// The arguments to keep, the name of the command first.
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use pugdb_wire::resp::{Limits, RequestDecoder};
    /// # let mut decoder = RequestDecoder::new(Limits::default());
    /// let request = decoder.decode(&mut BytesMut::from("ECHO wuff\r\n"))?.expect("a whole line");
    /// assert_eq!(request.into_arguments(), ["ECHO", "wuff"]);
    /// # Ok::<(), pugdb_wire::resp::ProtocolError>(())
    /// ```
    pub fn into_arguments(self) -> Vec<Bytes> {
        self.arguments
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Request")?;
        let lengths = self.arguments.iter().map(|argument| format!("{} bytes", argument.len()));
        f.debug_list().entries(lengths.map(Unquoted)).finish()
    }
}

/// Text that `debug_list` shall not put into quotes.
struct Unquoted(String);

impl fmt::Debug for Unquoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
