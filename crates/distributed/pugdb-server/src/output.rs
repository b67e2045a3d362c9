//! The replies of a connection that are not sent yet: in order, bounded, and replaceable while their durability is
//! open.

use bytes::{Buf, BytesMut};
use pugdb_wire::resp::{Protocol, Reply};

use crate::budget::Reservation;
use crate::failure::Failure;
use crate::limits::{OUTPUT_BYTES, REPLY_BYTES_MAX, RESERVE_STEP_BYTES};

/// Bytes that a reply takes beside its text.
const FRAME_BYTES: usize = 32;

/// Whether a reply tells of the database, and so waits for durability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tells {
    /// Of what was written or read.
    Data,
    /// Of the server and the connection.
    Nothing,
}

pub(crate) struct Output {
    bytes: BytesMut,
    /// Where each reply ends in `bytes`, until they are settled.
    replies: Vec<Span>,
    reserved: Reservation,
}

#[derive(Clone, Copy)]
struct Span {
    end: usize,
    tells: Tells,
    protocol: Protocol,
}

impl Output {
    pub(crate) fn new(reserved: Reservation) -> Self {
        Self { bytes: BytesMut::new(), replies: Vec::new(), reserved }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// True when the replies are to be sent before another command runs.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() >= OUTPUT_BYTES
    }

    /// Adds a reply; one that is too large becomes an error.
    pub(crate) fn push(&mut self, reply: &Reply, tells: Tells, protocol: Protocol) {
        let reply_bytes = encoded_bytes_max(reply);
        if reply_bytes > REPLY_BYTES_MAX {
            Failure::REPLY_TOO_LARGE.to_reply().encode(protocol, &mut self.bytes);
        } else if self.reserve(reply_bytes).is_err() {
            // A few bytes beyond the budget, so that the client hears of it.
            Failure::REPLY_OUT_OF_BUFFERS.to_reply().encode(protocol, &mut self.bytes);
        } else {
            reply.encode(protocol, &mut self.bytes);
        }
        self.replies.push(Span { end: self.bytes.len(), tells, protocol });
    }

    fn reserve(&mut self, more: usize) -> Result<(), crate::budget::Exhausted> {
        let needed = self.bytes.len().saturating_add(more);
        if needed <= self.reserved.bytes() {
            return Ok(());
        }
        self.reserved.set(needed.next_multiple_of(RESERVE_STEP_BYTES)).or_else(|_| self.reserved.set(needed))
    }

    /// True when a reply waits for durability.
    pub(crate) fn tells_data(&self) -> bool {
        self.replies.iter().any(|span| span.tells == Tells::Data)
    }

    /// The replies may be sent as they are.
    pub(crate) fn settle(&mut self) {
        self.replies.clear();
    }

    /// What the replies tell of did not become durable: those that tell of data become this error.
    pub(crate) fn settle_failed(&mut self, failure: &Failure) {
        let mut rest = std::mem::take(&mut self.bytes);
        let mut start = 0;
        for span in self.replies.drain(..) {
            let reply = rest.split_to(span.end - start);
            start = span.end;
            match span.tells {
                Tells::Data => failure.to_reply().encode(span.protocol, &mut self.bytes),
                Tells::Nothing => self.bytes.extend_from_slice(&reply),
            }
        }
    }

    /// What is to be sent.
    pub(crate) fn unsent(&self) -> &[u8] {
        debug_assert!(self.replies.is_empty(), "replies are settled before they are sent");
        &self.bytes
    }

    /// So many bytes are sent.
    pub(crate) fn sent(&mut self, count: usize) {
        self.bytes.advance(count);
    }

    /// Everything is sent: gives the memory back.
    pub(crate) fn release(&mut self) {
        self.bytes = BytesMut::new();
        if self.replies.capacity() > 1024 {
            self.replies = Vec::new();
        }
        // To less it always goes.
        let _ = self.reserved.set(0);
    }
}

/// What a reply takes at most.
pub(crate) fn encoded_bytes_max(reply: &Reply) -> usize {
    let sum = |values: &[Reply]| values.iter().map(encoded_bytes_max).fold(0, usize::saturating_add);
    let text = match reply {
        Reply::Simple(text) | Reply::Error(text) | Reply::BigNumber(text) => text.len(),
        Reply::Integer(_) | Reply::Null | Reply::NullArray | Reply::Boolean(_) | Reply::Double(_) => 0,
        Reply::Bulk(bytes) | Reply::Verbatim { text: bytes, .. } => bytes.len(),
        Reply::Array(values) | Reply::Set(values) | Reply::Push(values) => sum(values),
        Reply::Map(pairs) => {
            let pair = |(key, value): &(Reply, Reply)| {
                encoded_bytes_max(key).saturating_add(encoded_bytes_max(value))
            };
            pairs.iter().map(pair).fold(0, usize::saturating_add)
        }
    };
    text.saturating_add(FRAME_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;

    fn output(budget: usize) -> Output {
        Output::new(Budget::new(budget).reservation())
    }

    fn text(output: &Output) -> String {
        String::from_utf8(output.bytes.to_vec()).unwrap()
    }

    #[test]
    fn after_a_failed_sync_only_replies_without_data_are_sent() {
        let mut output = output(1 << 20);
        output.push(&Reply::simple("PONG"), Tells::Nothing, Protocol::Resp2);
        output.push(&Reply::OK, Tells::Data, Protocol::Resp2);
        output.push(&Reply::Null, Tells::Data, Protocol::Resp3);
        output.push(&Reply::Integer(3), Tells::Nothing, Protocol::Resp2);
        assert!(output.tells_data());
        output.settle_failed(&Failure::new("UNAVAILABLE gone"));
        assert_eq!(text(&output), "+PONG\r\n-UNAVAILABLE gone\r\n-UNAVAILABLE gone\r\n:3\r\n");
        assert!(!output.tells_data());
    }

    #[test]
    fn a_reply_without_room_becomes_an_error() {
        let mut output = output(20_000);
        output.push(&Reply::Bulk(vec![b'x'; 21_000].into()), Tells::Data, Protocol::Resp2);
        assert!(text(&output).starts_with("-OOM the reply does not fit"));
        output.push(&Reply::Bulk(vec![b'x'; 10_000].into()), Tells::Data, Protocol::Resp2);
        assert_eq!(output.unsent_len(), text(&output).len());
        assert!(text(&output).ends_with("x\r\n"));
        let huge = Reply::Array(vec![Reply::Bulk(vec![0; 64 << 20].into()); 9]);
        output.push(&huge, Tells::Data, Protocol::Resp2);
        assert!(text(&output).ends_with(
            "-ERR the reply is larger than 512 MiB; ask for fewer keys. The command was carried out\r\n"
        ));
    }

    impl Output {
        fn unsent_len(&self) -> usize {
            self.bytes.len()
        }
    }
}
