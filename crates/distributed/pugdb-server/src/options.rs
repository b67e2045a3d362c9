//! What a server is told when it starts.

use std::net::SocketAddr;
use std::num::NonZero;
use std::path::PathBuf;
use std::thread::available_parallelism;
use std::time::Duration;

use crate::limits;
use crate::tls::TlsOptions;

/// Settings of a [`Server`](crate::Server).
///
/// ```
/// use pugdb_server::ServerOptions;
///
/// let options = ServerOptions { max_clients: 100, ..ServerOptions::default() };
/// assert_eq!(options.addresses, ["127.0.0.1:7379".parse().unwrap()]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerOptions {
    /// Where to listen without TLS; here or in [`tls`](Self::tls) there is at least one address. Port 0 takes any free port. There are
    /// no passwords yet: whoever reaches an address reads and writes everything.
    pub addresses: Vec<SocketAddr>,
    /// Where to listen with TLS, and with which certificate.
    pub tls: Option<TlsOptions>,
    /// A socket in the file system, beside the addresses. Only the owner may connect.
    pub unix_socket: Option<PathBuf>,
    /// Where `/livez`, `/readyz` and `/metrics` are answered. No data is shown there.
    pub http: HttpAddress,
    /// Where the data lies, for the room that is left there; `None` when it lies on no disk.
    pub data_dir: Option<PathBuf>,
    /// Clients at a time; one more is told so and closed.
    pub max_clients: usize,
    /// Bytes for the buffers of all connections together: commands that have not arrived whole, replies that have
    /// not been sent. It is beside what the database takes.
    pub buffer_bytes: usize,
    /// Silence after which the operating system asks whether a client is still there.
    pub keepalive: Duration,
    /// Silence after which a client is closed; `None` for never. In whole seconds.
    pub idle_timeout: Option<Duration>,
    /// How long a client may leave its replies unread before it is closed.
    pub stall_wait: Duration,
    /// How long a shutdown waits for connections to finish the commands that they have received.
    pub shutdown_wait: Duration,
    /// Threads that serve connections; `None` is [`threads_default`](Self::threads_default).
    pub threads: Option<usize>,
}

impl ServerOptions {
    /// As many threads as processors that this process may use, by its affinity and its control group, and two more for commands that
    /// wait inside the database.
    ///
    /// ```
    /// assert!(pugdb_server::ServerOptions::threads_default() >= 3);
    /// ```
    #[must_use]
    pub fn threads_default() -> usize {
        available_parallelism().map_or(2, NonZero::get) + 2
    }
}

/// Where a [`Server`](crate::Server) answers HTTP.
///
/// ```
/// use pugdb_server::{HttpAddress, ServerOptions};
///
/// let http = HttpAddress::IfFree("127.0.0.1:7080".parse().unwrap());
/// assert_ne!(ServerOptions::default().http, http);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpAddress {
    /// Nowhere.
    Nowhere,
    /// At this address; when another program has it, the server does not start.
    At(SocketAddr),
    /// At this address; when another program has it, nowhere.
    IfFree(SocketAddr),
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            addresses: vec![SocketAddr::from(([127, 0, 0, 1], 7379))],
            tls: None,
            unix_socket: None,
            http: HttpAddress::Nowhere,
            data_dir: None,
            max_clients: limits::CLIENTS_MAX,
            buffer_bytes: limits::BUFFER_BYTES,
            keepalive: limits::KEEPALIVE,
            idle_timeout: None,
            stall_wait: limits::STALL_WAIT,
            shutdown_wait: limits::SHUTDOWN_WAIT,
            threads: None,
        }
    }
}
