//! The limits of the RESP codec: each has a name, a reason and a neighbour.

use std::ops::Range;

use bytes::Bytes;

use super::Reply;

/// Arguments of one command. The number Redis has had for years; an `MSET` of half a million pairs fits.
pub const ARGUMENTS_MAX: usize = 1_048_576;

/// Bytes of one argument or of one string in a reply. Redis calls it `proto-max-bulk-len` and has the same default.
pub const BULK_BYTES_MAX: usize = 512 << 20;

/// Bytes of one command as it arrived, plus [`ARGUMENT_OVERHEAD_BYTES`] for each argument. Two of the largest
/// arguments do not fit into one command: one connection may not hold more than this.
pub const COMMAND_BYTES_MAX: usize = 1 << 30;

/// Bytes of one line: an inline command, a number line, a simple string, an error, a big number. Redis calls it
/// `PROTO_INLINE_MAX_SIZE`. A line has no length in front, so this is what ends the wait for its end.
pub const LINE_BYTES_MAX: usize = 64 << 10;

/// Bytes of memory that one argument costs besides its own bytes: where it starts and ends while the command
/// arrives (twice, for a vector that doubles) and its handle afterwards. Counted, because `$0` costs the sender
/// six bytes.
pub const ARGUMENT_OVERHEAD_BYTES: usize = 64;

/// Values in one aggregate of a reply. More would not fit into [`REPLY_BYTES_MAX`] anyway.
pub const ELEMENTS_MAX: usize = 16 << 20;

/// Bytes of one reply as it arrived, plus [`VALUE_OVERHEAD_BYTES`] for each value in it.
pub const REPLY_BYTES_MAX: usize = 1 << 30;

/// Bytes of memory that one value of a reply costs besides its own bytes: `_\r\n` costs the sender three bytes.
pub const VALUE_OVERHEAD_BYTES: usize = size_of::<Reply>();

/// Aggregates inside one another. Redis itself nests a handful deep; the decoder builds its answer by recursion,
/// so that a number that a stack can hold is part of its safety.
pub const DEPTH_MAX: u8 = 32;

const _: () = assert!(BULK_BYTES_MAX < COMMAND_BYTES_MAX, "the largest argument fits into a command");
const _: () = assert!(BULK_BYTES_MAX < REPLY_BYTES_MAX, "the largest string fits into a reply");
const _: () = assert!(LINE_BYTES_MAX < BULK_BYTES_MAX, "what fits on a line fits into a string");
const _: () = assert!(
    ARGUMENT_OVERHEAD_BYTES >= 2 * size_of::<Range<usize>>()
        && ARGUMENT_OVERHEAD_BYTES >= size_of::<Range<usize>>() + size_of::<Bytes>(),
    "the overhead is not an understatement"
);
const _: () = assert!(
    ARGUMENTS_MAX * (ARGUMENT_OVERHEAD_BYTES + b"$0\r\n\r\n".len()) < COMMAND_BYTES_MAX,
    "a command can have all its arguments, if they are small"
);
const _: () = assert!(
    LINE_BYTES_MAX * ARGUMENT_OVERHEAD_BYTES < COMMAND_BYTES_MAX,
    "an inline command needs no check of its whole size"
);
const _: () = assert!(
    ELEMENTS_MAX * (VALUE_OVERHEAD_BYTES + b"_\r\n".len()) <= REPLY_BYTES_MAX,
    "an aggregate can have all its elements, if they are small"
);

/// What a [`RequestDecoder`](super::RequestDecoder) accepts; the defaults are the constants of [this
/// module](self), with their reasons.
///
/// ```
/// use pugdb_wire::resp::Limits;
///
/// let limits = Limits { bulk_bytes_max: 1 << 20, ..Limits::default() };
/// assert_eq!(limits.arguments_max, 1_048_576);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Arguments of one command, its name included: [`ARGUMENTS_MAX`].
    pub arguments_max: usize,
    /// Bytes of one argument: [`BULK_BYTES_MAX`].
    pub bulk_bytes_max: usize,
    /// Bytes of one command with [`ARGUMENT_OVERHEAD_BYTES`] for each argument: [`COMMAND_BYTES_MAX`].
    pub command_bytes_max: usize,
    /// Bytes of an inline command and of a number line: [`LINE_BYTES_MAX`].
    pub line_bytes_max: usize,
}

impl Limits {
    /// For a connection that has not yet said who it is: enough for `AUTH` and `HELLO`, and too little to be worth
    /// an attack. Redis has the same numbers, 10 arguments of 16 KiB.
    ///
    /// ```
    /// use bytes::BytesMut;
    /// use pugdb_wire::resp::{Limits, ProtocolError, RequestDecoder};
    ///
    /// let mut decoder = RequestDecoder::new(Limits::UNAUTHENTICATED);
    /// let refused = decoder.decode(&mut BytesMut::from("*11\r\n"));
    /// assert_eq!(refused, Err(ProtocolError::InvalidMultibulkLength));
    /// ```
    pub const UNAUTHENTICATED: Self = Self {
        arguments_max: 10,
        bulk_bytes_max: 16 << 10,
        command_bytes_max: 256 << 10,
        line_bytes_max: LINE_BYTES_MAX,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            arguments_max: ARGUMENTS_MAX,
            bulk_bytes_max: BULK_BYTES_MAX,
            command_bytes_max: COMMAND_BYTES_MAX,
            line_bytes_max: LINE_BYTES_MAX,
        }
    }
}

/// What a [`ReplyDecoder`](super::ReplyDecoder) accepts; the defaults are the constants of [this module](self),
/// with their reasons.
///
/// ```
/// use pugdb_wire::resp::ReplyLimits;
///
/// assert_eq!(ReplyLimits::default().depth_max, 32);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyLimits {
    /// Aggregates inside one another: [`DEPTH_MAX`].
    pub depth_max: u8,
    /// Values in one aggregate, keys and values of a map counted apart: [`ELEMENTS_MAX`].
    pub elements_max: usize,
    /// Bytes of one string: [`BULK_BYTES_MAX`].
    pub bulk_bytes_max: usize,
    /// Bytes of one reply with [`VALUE_OVERHEAD_BYTES`] for each value: [`REPLY_BYTES_MAX`].
    pub reply_bytes_max: usize,
    /// Bytes of a simple string, an error, a number: [`LINE_BYTES_MAX`].
    pub line_bytes_max: usize,
}

impl Default for ReplyLimits {
    fn default() -> Self {
        Self {
            depth_max: DEPTH_MAX,
            elements_max: ELEMENTS_MAX,
            bulk_bytes_max: BULK_BYTES_MAX,
            reply_bytes_max: REPLY_BYTES_MAX,
            line_bytes_max: LINE_BYTES_MAX,
        }
    }
}
