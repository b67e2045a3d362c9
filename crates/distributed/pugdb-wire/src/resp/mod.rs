//! RESP, the protocol of Redis: requests and replies, for the server and for the client.
//!
//! The specification is <https://redis.io/docs/latest/develop/reference/protocol-spec/>. Where it leaves a choice
//! (limits, error texts, how a RESP3 type is shown to a RESP2 client) this module does what Redis does.
//!
//! | side   | reads                                 | writes                          |
//! |--------|---------------------------------------|---------------------------------|
//! | server | [`RequestDecoder`] gives a [`Request`] | [`Reply::encode`]               |
//! | client | [`ReplyDecoder`] gives a [`Reply`]     | [`encode_request`]              |
//!
//! Both decoders are incremental. The caller appends what it received to a [`bytes::BytesMut`] and calls `decode`
//! until it answers `None`. A message that is not complete stays in that buffer, and the decoder remembers how far
//! it has read, so that no byte is looked at twice however small the pieces are. Nothing is allocated for bytes
//! that a header only announces.
//!
//! ```
//! use bytes::BytesMut;
//! use pugdb_wire::resp::{Limits, Protocol, Reply, ReplyDecoder, ReplyLimits, RequestDecoder, encode_request};
//!
//! // The client asks.
//! let mut to_server = BytesMut::new();
//! encode_request(&["GET", "pug"], &mut to_server);
//!
//! // The server reads and answers.
//! let mut requests = RequestDecoder::new(Limits::default());
//! let request = requests.decode(&mut to_server)?.expect("the request is complete");
//! assert_eq!(request.arguments(), ["GET", "pug"]);
//! let mut to_client = BytesMut::new();
//! Reply::Bulk("wrinkly".into()).encode(Protocol::Resp2, &mut to_client);
//!
//! // The client reads.
//! let mut replies = ReplyDecoder::new(ReplyLimits::default());
//! assert_eq!(replies.decode(&mut to_client)?, Some(Reply::Bulk("wrinkly".into())));
//! # Ok::<(), pugdb_wire::resp::ProtocolError>(())
//! ```

mod encode;
mod error;
mod header;
mod inline;
pub mod limits;
mod line;
mod reply;
mod reply_decoder;
mod request;
mod request_decoder;

#[cfg(test)]
mod tests;

pub use self::encode::encode_request;
pub use self::error::ProtocolError;
pub use self::limits::{Limits, ReplyLimits};
pub use self::reply::{Protocol, Reply};
pub use self::reply_decoder::ReplyDecoder;
pub use self::request::Request;
pub use self::request_decoder::RequestDecoder;
