//! The PugDB server: RESP over TCP and local sockets on the embedded database, and HTTP for health and metrics.
//!
//! ```
//! use std::io::{Read, Write};
//! use std::net::{SocketAddr, TcpStream};
//!
//! use pugdb_server::{Server, ServerOptions};
//!
//! let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
//! let options = ServerOptions { addresses: vec![any_port], ..ServerOptions::default() };
//! let server = Server::bind(options, pugdb::Database::in_memory()?)?;
//! let mut client = TcpStream::connect(server.local_addr())?;
//! client.write_all(b"SET pug wrinkly\r\nGET pug\r\nQUIT\r\n")?;
//!
//! // A program passes `shutdown_signal()`; here the client's last reply ends it.
//! let (ended, end) = tokio::sync::oneshot::channel();
//! let reader = std::thread::spawn(move || {
//!     let mut replies = String::new();
//!     client.read_to_string(&mut replies).unwrap();
//!     ended.send(()).unwrap();
//!     replies
//! });
//! server.run(async { end.await.unwrap() });
//! assert_eq!(reader.join().unwrap(), "+OK\r\n$7\r\nwrinkly\r\n+OK\r\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! How a request travels: `connection` reads bytes and takes commands out of them, `commands` finds each in its table
//! asks whether the connection's `identity` may, and runs it on the database through a `call`, `output` collects the replies, and
//! `connection` lets them go when everything they tell of is durable. All connections share what is in `shared`. `http` answers probes and
//! scrapers, and `tls` makes connections private. No user's byte reaches a log, an error or a counter.

mod arguments;
mod budget;
mod call;
mod clients;
mod commands;
mod connection;
mod cursors;
mod decimal;
mod denials;
mod failure;
mod gate;
mod health;
mod http;
mod identity;
mod limits;
mod login;
mod metrics;
mod notes;
mod options;
mod output;
mod pause;
mod process;
mod server;
mod session;
mod settings;
mod shape;
mod shared;
mod signal;
mod slowlog;
mod stats;
mod stream;
mod tls;
mod unix_socket;

#[cfg(test)]
mod tests;

pub use commands::{command_reference, knows_action};
pub use options::{HttpAddress, ServerOptions};
pub use server::Server;
pub use signal::shutdown_signal;
pub use tls::{CertificateInfo, ClientCertificates, TlsHandle, TlsOccasion, TlsOccasions, TlsOptions};
