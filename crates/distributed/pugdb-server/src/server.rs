//! The life of a server: bind, accept, serve until it is asked to end, finish what was received, return.

use std::future::Future;
use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use pugdb::{Database, Error, Result};
use pugdb_wire::resp::Protocol;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use crate::ServerOptions;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::gate::Watchman;
use crate::limits::ACCEPT_PAUSE;
use crate::shared::Shared;

/// How long threads that are inside the database may keep a shutdown waiting after the connections' time is up.
const THREADS_WAIT: Duration = Duration::from_secs(1);

/// A RESP server on a database. It listens from [`bind`](Self::bind) on and answers while [`run`](Self::run) runs.
///
/// A reply leaves when every commit that it made or showed has met its own durability. One sync serves all commands
/// that arrived together and all connections. If that sync fails, every reply that waited for it is an error that
/// begins with `UNAVAILABLE`, for nobody knows whether those writes survive a crash; the connection goes on. From then
/// on the database refuses writes, and reads are answered from what it has.
///
/// It has its own threads and runtime. An example stands at the [top of the crate](crate).
pub struct Server {
    /// Before the runtime, which it wakes.
    watchman: Watchman,
    runtime: Runtime,
    listeners: Vec<TcpListener>,
    pub(crate) shared: Arc<Shared>,
}

impl Server {
    /// Takes the addresses. The database stays the caller's: close it after [`run`](Self::run).
    ///
    /// ```
    /// use pugdb_server::{Server, ServerOptions};
    ///
    /// let db = pugdb::Database::in_memory()?;
    /// let options = ServerOptions { addresses: vec!["127.0.0.1:0".parse().unwrap()], ..ServerOptions::default() };
    /// let first = Server::bind(options.clone(), db.clone())?;
    ///
    /// let taken = ServerOptions { addresses: vec![first.local_addr()], ..options };
    /// let error = Server::bind(taken, db).err().unwrap();
    /// assert!(error.to_string().contains("is in use"));
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Conflict` when an address is in use, `Denied` without the right to it, `Invalid` without any address,
    /// `Unavailable` when this machine does not have it or there are no threads.
    pub fn bind(options: ServerOptions, db: Database) -> Result<Self> {
        if options.addresses.is_empty() {
            return Err(Error::invalid("a server needs an address to listen on"));
        }
        let threads = options.threads.unwrap_or_else(default_threads).max(2);
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("pugdb-server")
            .enable_io()
            .enable_time()
            .build()
            .map_err(no_threads)?;
        let mut listeners = Vec::new();
        for &address in &options.addresses {
            listeners.push(
                runtime.block_on(TcpListener::bind(address)).map_err(|error| bind_error(address, error))?,
            );
        }
        let mut addresses = Vec::new();
        for listener in &listeners {
            addresses.push(listener.local_addr().map_err(|error| Error::io("ask for the address", error))?);
        }
        let shared = Shared::new(options, db, addresses, threads);
        let watchman = Watchman::start(&shared.gate, runtime.handle().clone()).map_err(no_threads)?;
        Ok(Self { watchman, runtime, listeners, shared })
    }

    /// The first address it listens on, with the port that a port 0 became.
    ///
    /// # Panics
    /// Never: a server has an address.
    pub fn local_addr(&self) -> SocketAddr {
        *self.shared.addresses.first().expect("bind refuses to be without")
    }

    /// The addresses it listens on, in the order of the options.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.shared.addresses
    }

    /// Serves until `shutdown` is done. Then it accepts nobody any more, and each connection runs the commands that it
    /// has received, sends the replies and is closed, for which it has
    /// [`shutdown_wait`](ServerOptions::shutdown_wait).
    ///
    /// Call it from a thread outside of any async runtime; it blocks.
    pub fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { watchman, runtime, listeners, shared } = self;
        let wait = shared.options.shutdown_wait;
        runtime.block_on(async {
            let (stop, stopped) = watch::channel(false);
            // Nothing is sent: the channel is closed when the last connection has dropped its end.
            let (alive, mut all_gone) = mpsc::channel::<()>(1);
            for listener in listeners {
                let acceptor =
                    Acceptor { shared: Arc::clone(&shared), stopped: stopped.clone(), alive: alive.clone() };
                tokio::spawn(acceptor.run(listener));
            }
            drop((alive, stopped));
            shutdown.await;
            // Fails when nobody is left to be told.
            let _ = stop.send(true);
            // The time is up: whoever is left does not read its replies.
            let _ = timeout(wait, all_gone.recv()).await;
        });
        drop(watchman);
        runtime.shutdown_timeout(THREADS_WAIT);
    }
}

/// As many threads as processors, and two more for commands that wait inside the database: see [`Gate`].
///
/// [`Gate`]: crate::gate::Gate
fn default_threads() -> usize {
    available_parallelism().map_or(2, NonZero::get) + 2
}

fn no_threads(error: std::io::Error) -> Error {
    Error::io("start the threads of the server", error)
}

fn bind_error(address: SocketAddr, error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::AddrInUse {
        return Error::conflict(format!(
            "the address {address} is in use by another program; stop it or listen on another address"
        ));
    }
    Error::io(format_args!("listen on {address}"), error)
}

/// Takes connections from one listener.
struct Acceptor {
    shared: Arc<Shared>,
    stopped: watch::Receiver<bool>,
    alive: mpsc::Sender<()>,
}

impl Acceptor {
    async fn run(self, listener: TcpListener) {
        let mut stopped = self.stopped.clone();
        let mut stop = std::pin::pin!(async move {
            // An error means that the server is gone: stop as well.
            let _ = stopped.wait_for(|&stopped| stopped).await;
        });
        while let Some(accepted) = unless(listener.accept(), stop.as_mut()).await {
            match accepted {
                Ok((stream, address)) => self.admit(stream, address),
                // The connection has gone, or there are no file descriptors: some come back when clients go.
                Err(_) => sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    /// Starts to serve a connection, or tells it that there are too many.
    fn admit(&self, stream: TcpStream, address: SocketAddr) {
        let shared = &self.shared;
        let local_address = stream.local_addr().unwrap_or(address);
        let Some(registration) = shared.clients.register(address, local_address, shared.options.max_clients)
        else {
            shared.stats.rejected.add(1);
            let mut refusal = bytes::BytesMut::new();
            Failure::TOO_MANY_CLIENTS.to_reply().encode(Protocol::Resp2, &mut refusal);
            // The socket's buffer is empty and takes it at once, or the client does not hear of it.
            let _ = SockRef::from(&stream).send(&refusal);
            return;
        };
        shared.stats.connections.add(1);
        // Without these the connection works as well.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream)
            .set_tcp_keepalive(&TcpKeepalive::new().with_time(shared.options.keepalive));
        let connection = Connection::new(stream, Arc::clone(shared), registration);
        let (stopped, alive) = (self.stopped.clone(), self.alive.clone());
        tokio::spawn(async move {
            connection.serve(stopped).await;
            drop(alive);
        });
    }
}

/// What the first future gives, unless the second is done before.
async fn unless<T>(first: impl Future<Output = T>, mut stop: impl Future<Output = ()> + Unpin) -> Option<T> {
    let mut first = std::pin::pin!(first);
    std::future::poll_fn(|context| {
        if std::pin::Pin::new(&mut stop).poll(context).is_ready() {
            return std::task::Poll::Ready(None);
        }
        first.as_mut().poll(context).map(Some)
    })
    .await
}
