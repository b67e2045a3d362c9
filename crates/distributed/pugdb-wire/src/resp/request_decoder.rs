//! The server's side of reading: bytes of a connection become requests.

use std::ops::Range;

use bytes::{Buf, BytesMut};

use super::limits::ARGUMENT_OVERHEAD_BYTES;
use super::line::{CRLF, LineScan, parse_length};
use super::{Limits, ProtocolError, Request, inline};

/// A vector of argument positions that grew larger than this is given back after its command.
const ARGUMENTS_KEPT: usize = 1024;

/// Reads commands from a buffer that grows as bytes arrive; one decoder for each connection.
///
/// Understood are arrays of bulk strings, which is what clients send, and inline commands, which is what people
/// type. A command stays in the buffer until all of it is there, and then leaves it in one piece without being
/// copied. Only this decoder takes bytes from the front of the buffer; the caller only appends.
///
/// How much memory a connection takes is in the caller's hands: the buffer never holds more than one unfinished
/// command and what was appended since, see [`buffered_bytes`](Self::buffered_bytes).
///
/// ```
/// use bytes::BytesMut;
/// use pugdb_wire::resp::{Limits, RequestDecoder};
///
/// let mut decoder = RequestDecoder::new(Limits::default());
/// let mut input = BytesMut::from("*2\r\n$3\r\nGET\r\n$3\r\np");
/// assert_eq!(decoder.decode(&mut input)?, None);
/// input.extend_from_slice(b"ug\r\n");
/// let request = decoder.decode(&mut input)?.expect("now it is complete");
/// assert_eq!(request.arguments(), ["GET", "pug"]);
/// # Ok::<(), pugdb_wire::resp::ProtocolError>(())
/// ```
#[derive(Debug)]
pub struct RequestDecoder {
    limits: Limits,
    stage: Stage,
    /// Bytes at the front of the input that belong to the present command and are read already.
    read: usize,
    /// Where the arguments lie that are complete.
    arguments: Vec<Range<usize>>,
    line: LineScan,
    /// Bytes of the present command that the last call left in the input.
    waiting: usize,
}

/// What is read next.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// The first byte of a command, which tells an array from an inline command.
    Command,
    /// `$<length>`, with so many arguments still to come.
    BulkHeader { arguments_left: usize },
    /// The bytes of an argument and their CR LF.
    BulkBody { arguments_left: usize, bulk_bytes: usize },
    /// Nothing any more.
    Failed(ProtocolError),
}

enum Step {
    /// A piece was read; look at the stage again.
    Next,
    /// The input does not have what comes next.
    Wait,
    Done(Request),
}

impl RequestDecoder {
    /// A decoder at the start of a connection.
    ///
    /// ```
    /// use pugdb_wire::resp::{Limits, RequestDecoder};
    ///
    /// assert_eq!(RequestDecoder::new(Limits::default()).buffered_bytes(), 0);
    /// ```
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            stage: Stage::Command,
            read: 0,
            arguments: Vec::new(),
            line: LineScan::default(),
            waiting: 0,
        }
    }

    /// Other limits from here on: a connection that has said who it is may send more.
    ///
    /// ```
    /// use bytes::BytesMut;
    /// use pugdb_wire::resp::{Limits, RequestDecoder};
    ///
    /// let mut decoder = RequestDecoder::new(Limits::UNAUTHENTICATED);
    /// decoder.set_limits(Limits::default());
    /// assert_eq!(decoder.decode(&mut BytesMut::from("*11\r\n")), Ok(None));
    /// ```
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The next command, or `None` if `input` does not hold all of it yet. Empty commands (an empty line, `*0`,
    /// `*-1`) are skipped, as Redis does.
    ///
    /// # Errors
    ///
    /// A [`ProtocolError`] as soon as the bytes cannot become a command within the limits, on arrival of the
    /// header that says so. The decoder is of no use afterwards: every further call returns the same error.
    ///
    /// ```
    /// use bytes::BytesMut;
    /// use pugdb_wire::resp::{Limits, ProtocolError, RequestDecoder};
    ///
    /// let mut decoder = RequestDecoder::new(Limits::default());
    /// let mut input = BytesMut::from("*1\r\n$9223372036854775807\r\n");
    /// assert_eq!(decoder.decode(&mut input), Err(ProtocolError::InvalidBulkLength));
    /// ```
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Request>, ProtocolError> {
        let decoded = loop {
            let step = match self.stage {
                Stage::Command => self.command(input),
                Stage::BulkHeader { arguments_left } => self.bulk_header(input, arguments_left),
                Stage::BulkBody { arguments_left, bulk_bytes } => {
                    self.bulk_body(input, arguments_left, bulk_bytes)
                }
                Stage::Failed(error) => Err(error),
            };
            match step {
                Ok(Step::Next) => {}
                Ok(Step::Wait) => break Ok(None),
                Ok(Step::Done(request)) => break Ok(Some(request)),
                Err(error) => {
                    self.stage = Stage::Failed(error);
                    self.arguments = Vec::new();
                    break Err(error);
                }
            }
        };
        self.waiting = if decoded == Ok(None) { input.len() } else { 0 };
        decoded
    }

    /// What the unfinished command costs in memory: its bytes in the input when [`decode`](Self::decode) last
    /// looked, and [`ARGUMENT_OVERHEAD_BYTES`] for each argument. At most `command_bytes_max` plus what one read
    /// and one line can add.
    ///
    /// ```
    /// use bytes::BytesMut;
    /// use pugdb_wire::resp::{Limits, RequestDecoder};
    ///
    /// let mut decoder = RequestDecoder::new(Limits::default());
    /// decoder.decode(&mut BytesMut::from("*1048576\r\n"))?;
    /// assert_eq!(decoder.buffered_bytes(), 10);
    /// # Ok::<(), pugdb_wire::resp::ProtocolError>(())
    /// ```
    pub fn buffered_bytes(&self) -> usize {
        self.waiting.saturating_add(self.arguments.len().saturating_mul(ARGUMENT_OVERHEAD_BYTES))
    }

    /// How many more bytes have to arrive, at least, before [`decode`](Self::decode) can go on. The peer chose this
    /// number: reserve no more than a fixed amount of it, never all.
    ///
    /// ```
    /// use bytes::BytesMut;
    /// use pugdb_wire::resp::{Limits, RequestDecoder};
    ///
    /// let mut decoder = RequestDecoder::new(Limits::default());
    /// decoder.decode(&mut BytesMut::from("*1\r\n$1000\r\nabc"))?;
    /// assert_eq!(decoder.needed_hint(), 999);
    /// # Ok::<(), pugdb_wire::resp::ProtocolError>(())
    /// ```
    pub fn needed_hint(&self) -> usize {
        match self.stage {
            Stage::BulkBody { bulk_bytes, .. } => {
                bulk_bytes.saturating_add(CRLF.len()).saturating_sub(self.waiting.saturating_sub(self.read))
            }
            Stage::Command | Stage::BulkHeader { .. } => 1,
            Stage::Failed(_) => 0,
        }
    }

    fn command(&mut self, input: &mut BytesMut) -> Result<Step, ProtocolError> {
        match input.first() {
            None => Ok(Step::Wait),
            Some(b'*') => self.array_header(input),
            Some(_) => self.inline(input),
        }
    }

    fn inline(&mut self, input: &mut BytesMut) -> Result<Step, ProtocolError> {
        let end = self.line.find(input, 0, self.limits.line_bytes_max);
        let Some(lf) = end.map_err(|_| ProtocolError::TooBigInline)? else {
            return Ok(Step::Wait);
        };
        let line = input.get(..lf).unwrap_or_default();
        let words = inline::split(line.strip_suffix(b"\r").unwrap_or(line), self.limits.arguments_max)?;
        input.advance(lf + 1);
        Ok(if words.is_empty() { Step::Next } else { Step::Done(Request::new(words)) })
    }

    fn array_header(&mut self, input: &mut BytesMut) -> Result<Step, ProtocolError> {
        let end = self.line.find(input, 0, self.limits.line_bytes_max);
        let Some(lf) = end.map_err(|_| ProtocolError::TooBigMultibulkCount)? else {
            return Ok(Step::Wait);
        };
        let count = header_number(input, 0, lf).ok_or(ProtocolError::InvalidMultibulkLength)?;
        if count <= 0 {
            input.advance(lf + 1);
            return Ok(Step::Next);
        }
        match usize::try_from(count) {
            Ok(arguments) if arguments <= self.limits.arguments_max => {
                self.read = lf + 1;
                self.stage = Stage::BulkHeader { arguments_left: arguments };
                Ok(Step::Next)
            }
            _ => Err(ProtocolError::InvalidMultibulkLength),
        }
    }

    fn bulk_header(&mut self, input: &BytesMut, arguments_left: usize) -> Result<Step, ProtocolError> {
        match input.get(self.read) {
            None => return Ok(Step::Wait),
            Some(b'$') => {}
            Some(&got) => return Err(ProtocolError::expected_bulk(got)),
        }
        let end = self.line.find(input, self.read, self.limits.line_bytes_max);
        let Some(lf) = end.map_err(|_| ProtocolError::TooBigBulkCount)? else {
            return Ok(Step::Wait);
        };
        let bulk_bytes = header_number(input, self.read, lf)
            .and_then(|bytes| usize::try_from(bytes).ok())
            .filter(|&bytes| bytes <= self.limits.bulk_bytes_max)
            .ok_or(ProtocolError::InvalidBulkLength)?;
        self.read = lf + 1;
        self.check_command_bytes(bulk_bytes)?;
        self.stage = Stage::BulkBody { arguments_left, bulk_bytes };
        Ok(Step::Next)
    }

    /// Refuses an argument before its first byte if the command would grow too large with it.
    fn check_command_bytes(&self, bulk_bytes: usize) -> Result<(), ProtocolError> {
        let arguments = self.arguments.len().saturating_add(1);
        let command_bytes = self
            .read
            .saturating_add(bulk_bytes)
            .saturating_add(CRLF.len())
            .saturating_add(arguments.saturating_mul(ARGUMENT_OVERHEAD_BYTES));
        if command_bytes > self.limits.command_bytes_max { Err(ProtocolError::TooBigCommand) } else { Ok(()) }
    }

    fn bulk_body(
        &mut self,
        input: &mut BytesMut,
        arguments_left: usize,
        bulk_bytes: usize,
    ) -> Result<Step, ProtocolError> {
        let end = self.read.saturating_add(bulk_bytes);
        let Some(terminator) = input.get(end..end.saturating_add(CRLF.len())) else {
            return Ok(Step::Wait);
        };
        if terminator != CRLF {
            return Err(ProtocolError::ExpectedCrlf);
        }
        self.arguments.push(self.read..end);
        self.read = end + CRLF.len();
        let arguments_left = arguments_left.saturating_sub(1);
        if arguments_left > 0 {
            self.stage = Stage::BulkHeader { arguments_left };
            return Ok(Step::Next);
        }
        Ok(Step::Done(self.take_request(input)))
    }

    /// The command is complete: its bytes leave the input in one piece.
    fn take_request(&mut self, input: &mut BytesMut) -> Request {
        let command = input.split_to(self.read).freeze();
        let arguments = self.arguments.drain(..).map(|argument| command.slice(argument)).collect();
        if self.arguments.capacity() > ARGUMENTS_KEPT {
            self.arguments = Vec::new();
        }
        self.read = 0;
        self.stage = Stage::Command;
        Request::new(arguments)
    }

    #[cfg(test)]
    pub(super) fn examined_bytes(&self) -> usize {
        self.line.examined
    }
}

/// The number on the line from `start` to its LF, behind the byte that names the type.
fn header_number(input: &BytesMut, start: usize, lf: usize) -> Option<i64> {
    parse_length(input.get(start + 1..lf)?.strip_suffix(b"\r")?)
}
