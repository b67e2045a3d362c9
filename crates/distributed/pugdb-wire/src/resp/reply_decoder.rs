//! The client's side of reading: bytes of a connection become replies.

use bytes::{Bytes, BytesMut};

use super::header::{Aggregate, Blob, Header, owned_text};
use super::limits::VALUE_OVERHEAD_BYTES;
use super::line::{CRLF, LineScan};
use super::{ProtocolError, Reply, ReplyLimits};

/// The format and the colon in front of a verbatim text.
const VERBATIM_PREFIX_BYTES: usize = 4;

/// Reads replies from a buffer that grows as bytes arrive; one decoder for each connection.
///
/// All types of RESP2 and RESP3 are understood. Attributes are skipped. A [`Reply::Push`] may come before the answer
/// that is waited for. Streamed strings and aggregates (`$?`, `*?`), which no Redis sends, are refused.
///
/// It works in two passes over a reply: the first runs as bytes arrive, finds where the reply ends and holds no more
/// than a count for each open aggregate; the second runs once and builds the value, whose strings are slices of the
/// buffer. Only this decoder takes bytes from the front of the buffer; the caller only appends.
///
/// ```
/// use bytes::BytesMut;
/// use pugdb_wire::resp::{Reply, ReplyDecoder, ReplyLimits};
///
/// let mut decoder = ReplyDecoder::new(ReplyLimits::default());
/// let mut input = BytesMut::from("*2\r\n:1\r\n");
/// assert_eq!(decoder.decode(&mut input)?, None);
/// input.extend_from_slice(b"$3\r\npug\r\n");
/// let reply = Reply::Array(vec![Reply::Integer(1), Reply::Bulk("pug".into())]);
/// assert_eq!(decoder.decode(&mut input)?, Some(reply));
/// # Ok::<(), pugdb_wire::resp::ProtocolError>(())
/// ```
#[derive(Debug)]
pub struct ReplyDecoder {
    limits: ReplyLimits,
    failed: Option<ProtocolError>,
    /// Bytes at the front of the input that belong to the present reply and are read already.
    read: usize,
    /// Values of the present reply so far, what was skipped included.
    values: usize,
    line: LineScan,
    /// Length of the string whose header is read and whose bytes are not.
    blob_bytes: Option<usize>,
    /// The aggregates that are open, the outermost first.
    open: Vec<Open>,
}

#[derive(Debug)]
struct Open {
    values_left: usize,
    is_attribute: bool,
}

impl ReplyDecoder {
    /// A decoder at the start of a connection.
    ///
    /// ```
    /// use bytes::BytesMut;
    /// use pugdb_wire::resp::{Reply, ReplyDecoder, ReplyLimits};
    ///
    /// let mut decoder = ReplyDecoder::new(ReplyLimits::default());
    /// assert_eq!(decoder.decode(&mut BytesMut::from("+OK\r\n")), Ok(Some(Reply::OK)));
    /// ```
    pub fn new(limits: ReplyLimits) -> Self {
        Self {
            limits,
            failed: None,
            read: 0,
            values: 0,
            line: LineScan::default(),
            blob_bytes: None,
            open: Vec::new(),
        }
    }

    /// The next reply, or `None` if `input` does not hold all of it yet.
    ///
    /// # Errors
    ///
    /// A [`ProtocolError`] as soon as the bytes cannot become a reply within the limits. The decoder is of no use
    /// afterwards: every further call returns the same error.
    ///
    /// ```
    /// use bytes::BytesMut;
    /// use pugdb_wire::resp::{ProtocolError, ReplyDecoder, ReplyLimits};
    ///
    /// let mut decoder = ReplyDecoder::new(ReplyLimits::default());
    /// let mut input = BytesMut::from("HTTP/1.1 400 Bad Request\r\n");
    /// assert_eq!(decoder.decode(&mut input), Err(ProtocolError::UnknownReplyType));
    /// ```
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Reply>, ProtocolError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let decoded = match self.scan(input) {
            Ok(false) => Ok(None),
            Ok(true) => self.take_reply(input).map(Some),
            Err(error) => Err(error),
        };
        if let Err(error) = decoded {
            self.failed = Some(error);
            self.open = Vec::new();
        }
        decoded
    }

    /// First pass: goes on where the last call stopped; whether the reply is complete.
    fn scan(&mut self, input: &[u8]) -> Result<bool, ProtocolError> {
        loop {
            let value_ended = if let Some(blob_bytes) = self.blob_bytes {
                if !self.scan_blob(input, blob_bytes)? {
                    return Ok(false);
                }
                true
            } else {
                let end = self.line.find(input, self.read, self.limits.line_bytes_max);
                let Some(lf) = end.map_err(|_| ProtocolError::TooBigReplyLine)? else {
                    return Ok(false);
                };
                self.scan_header(input, lf)?
            };
            if value_ended && self.close_value() {
                return Ok(true);
            }
        }
    }

    /// Reads one line; whether the value ends with it.
    fn scan_header(&mut self, input: &[u8], lf: usize) -> Result<bool, ProtocolError> {
        let header = Header::parse(line_at(input, self.read, lf)?, &self.limits)?;
        self.read = lf + 1;
        self.values = self.values.saturating_add(1);
        match header {
            Header::Scalar(_) => {
                self.check_reply_bytes(0)?;
                Ok(true)
            }
            Header::Blob(_, blob_bytes) => {
                self.check_reply_bytes(blob_bytes.saturating_add(CRLF.len()))?;
                self.blob_bytes = Some(blob_bytes);
                Ok(false)
            }
            Header::Aggregate(aggregate, values) => {
                self.check_reply_bytes(0)?;
                if self.open.len() >= usize::from(self.limits.depth_max) {
                    return Err(ProtocolError::TooDeepReply);
                }
                let is_attribute = aggregate == Aggregate::Attribute;
                if values == 0 {
                    // An attribute is not a value: the one that it belongs to follows.
                    return Ok(!is_attribute);
                }
                self.open.push(Open { values_left: values, is_attribute });
                Ok(false)
            }
        }
    }

    /// Reads the bytes of a string; whether all of them have arrived.
    fn scan_blob(&mut self, input: &[u8], blob_bytes: usize) -> Result<bool, ProtocolError> {
        let end = self.read.saturating_add(blob_bytes);
        let Some(terminator) = input.get(end..end.saturating_add(CRLF.len())) else {
            return Ok(false);
        };
        if terminator != CRLF {
            return Err(ProtocolError::ExpectedCrlf);
        }
        self.read = end + CRLF.len();
        self.blob_bytes = None;
        Ok(true)
    }

    fn check_reply_bytes(&self, following: usize) -> Result<(), ProtocolError> {
        let overhead = self.values.saturating_mul(VALUE_OVERHEAD_BYTES);
        let reply_bytes = self.read.saturating_add(following).saturating_add(overhead);
        if reply_bytes > self.limits.reply_bytes_max { Err(ProtocolError::TooBigReply) } else { Ok(()) }
    }

    /// A value has ended, and with it every aggregate it was the last of; whether the reply has.
    fn close_value(&mut self) -> bool {
        while let Some(innermost) = self.open.last_mut() {
            innermost.values_left = innermost.values_left.saturating_sub(1);
            if innermost.values_left > 0 {
                return false;
            }
            let is_attribute = innermost.is_attribute;
            self.open.pop();
            if is_attribute {
                return false;
            }
        }
        true
    }

    /// Second pass: the reply leaves the input in one piece and is built.
    fn take_reply(&mut self, input: &mut BytesMut) -> Result<Reply, ProtocolError> {
        let frame = input.split_to(self.read).freeze();
        self.read = 0;
        self.values = 0;
        Builder { frame, read: 0, limits: &self.limits }.value()
    }

    #[cfg(test)]
    pub(super) fn examined_bytes(&self) -> usize {
        self.line.examined
    }
}

/// Builds a value from bytes whose frame, sizes and depth the first pass has checked. What is left to refuse is a
/// verbatim text without its format.
struct Builder<'a> {
    frame: Bytes,
    read: usize,
    limits: &'a ReplyLimits,
}

impl Builder<'_> {
    /// Calls itself once for every level, of which the first pass allows no more than `depth_max`.
    fn value(&mut self) -> Result<Reply, ProtocolError> {
        loop {
            let rest = self.frame.get(self.read..).unwrap_or_default();
            let lf = rest.iter().position(|&byte| byte == b'\n').ok_or(ProtocolError::ExpectedCrlf)?;
            let header = Header::parse(line_at(rest, 0, lf)?, self.limits)?;
            self.read += lf + 1;
            return match header {
                Header::Scalar(scalar) => Ok(scalar.to_reply()),
                Header::Blob(blob, blob_bytes) => self.blob(blob, blob_bytes),
                Header::Aggregate(Aggregate::Attribute, values) => {
                    for _ in 0..values {
                        self.value()?;
                    }
                    continue;
                }
                Header::Aggregate(Aggregate::Array, values) => self.values(values).map(Reply::Array),
                Header::Aggregate(Aggregate::Set, values) => self.values(values).map(Reply::Set),
                Header::Aggregate(Aggregate::Push, values) => self.values(values).map(Reply::Push),
                Header::Aggregate(Aggregate::Map, values) => self.pairs(values / 2).map(Reply::Map),
            };
        }
    }

    fn values(&mut self, count: usize) -> Result<Vec<Reply>, ProtocolError> {
        // All of them are here, so this is no larger than what has arrived and was counted.
        let mut values = Vec::with_capacity(count);
        for _ in 0..count {
            values.push(self.value()?);
        }
        Ok(values)
    }

    fn pairs(&mut self, count: usize) -> Result<Vec<(Reply, Reply)>, ProtocolError> {
        let mut pairs = Vec::with_capacity(count);
        for _ in 0..count {
            pairs.push((self.value()?, self.value()?));
        }
        Ok(pairs)
    }

    fn blob(&mut self, blob: Blob, blob_bytes: usize) -> Result<Reply, ProtocolError> {
        let end = self.read.saturating_add(blob_bytes);
        if self.frame.len() < end {
            return Err(ProtocolError::ExpectedCrlf);
        }
        let bytes = self.frame.slice(self.read..end);
        self.read = end.saturating_add(CRLF.len());
        match blob {
            Blob::Bulk => Ok(Reply::Bulk(bytes)),
            Blob::Error => Ok(Reply::Error(owned_text(&bytes))),
            Blob::Verbatim => {
                let format = split_verbatim(&bytes)?;
                Ok(Reply::Verbatim { format, text: bytes.slice(VERBATIM_PREFIX_BYTES..) })
            }
        }
    }
}

/// The line from `start` to its LF, without the CR that has to be there.
fn line_at(input: &[u8], start: usize, lf: usize) -> Result<&[u8], ProtocolError> {
    let line = input.get(start..lf).unwrap_or_default();
    line.strip_suffix(b"\r").ok_or(ProtocolError::ExpectedCrlf)
}

/// The format of a verbatim text, which stands before its colon.
fn split_verbatim(bytes: &[u8]) -> Result<[u8; 3], ProtocolError> {
    match bytes {
        &[a, b, c, b':', ..] => Ok([a, b, c]),
        _ => Err(ProtocolError::InvalidReplyValue),
    }
}
