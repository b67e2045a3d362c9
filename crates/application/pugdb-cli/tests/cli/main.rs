//! The command `pugdb` as a person or a script meets it: arguments in, output and exit code out.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]
#![expect(clippy::format_collect, reason = "lines of JSON read best as they are; nothing here is hot")]

mod acl;
mod audit;
mod bench;
mod checkpoint;
mod command;
mod conversion;
mod damage;
mod directory;
mod doctor;
mod encryption;
mod erase;
mod forms;
mod inspect;
mod jsonl;
mod keys;
mod keyspace;
mod manual;
mod privacy;
mod rdb;
mod resume;
mod rights;
mod serve;
mod settings;
mod sheets;
mod shell;
mod tls;

#[path = "../support/server.rs"]
mod server;
