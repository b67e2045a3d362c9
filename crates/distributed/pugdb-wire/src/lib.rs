//! Wire protocols as plain types: bytes in, messages out, and back.
//!
//! Nothing here opens a socket or a file, starts a thread or reads a clock: the caller moves the bytes, this crate
//! gives them their meaning. That is what lets one codec serve the server, the command line client, the tests, the
//! simulator and the fuzzer.
//!
//! [`resp`] is the protocol of Redis, versions 2 and 3; [`rdb`] is how Redis writes a key down, in a dump or a file.

pub mod rdb;
pub mod resp;
