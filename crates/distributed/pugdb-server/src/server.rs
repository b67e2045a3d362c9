//! The life of a server: bind, accept, serve until it is asked to end, finish what was received, return.

use std::future::Future;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pugdb::env::Env;
use pugdb::{Database, Error, Result};
use pugdb_wire::resp::Protocol;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::clients::{Address, Registration};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::gate::Watchman;
use crate::http::{HttpServer, Over};
use crate::limits::{ACCEPT_PAUSE, BACKLOG, BLOCKING_THREADS_MAX, TICK};
use crate::options::{HttpAddress, ServerOptions};
use crate::shared::Shared;
use crate::stream::Stream;
use crate::tls::{Place, Secured, Tls, TlsHandle, TlsPeer, serve_hello};
use crate::unix_socket::UnixSocket;

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
    tls_listeners: Vec<TcpListener>,
    unix_socket: Option<UnixSocket>,
    http: Option<(TcpListener, SocketAddr)>,
    tls_http: Option<(TcpListener, SocketAddr)>,
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
    /// `Conflict` when an address is in use, `Denied` without the right to it, `Invalid` without any address or when certificate and
    /// key of TLS cannot be used, `NotFound` when they are not there, `Corrupt` when the database's [rights](pugdb::rights) cannot be read,
    /// `Unavailable` when this machine does not have an address or there are no threads.
    pub fn bind(options: ServerOptions, db: Database) -> Result<Self> {
        let tls_addresses = options.tls.as_ref().map(|tls| tls.addresses.clone()).unwrap_or_default();
        if options.addresses.is_empty() && tls_addresses.is_empty() {
            return Err(Error::invalid("a server needs an address to listen on"));
        }
        let tls = options.tls.clone().map(|tls| Tls::new(tls, Env::os())).transpose()?.map(Arc::new);
        let threads = options.threads.unwrap_or_else(ServerOptions::threads_default).max(2);
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_name("pugdb-server")
            .enable_io()
            .enable_time()
            .build()
            .map_err(no_threads)?;
        let (listeners, addresses) = listen_all(&runtime, &options.addresses)?;
        let (tls_listeners, tls_addresses) = listen_all(&runtime, &tls_addresses)?;
        let http = bind_http(&runtime, options.http)?;
        let tls_http = options.tls.as_ref().and_then(|tls| tls.http);
        let tls_http = bind_http(&runtime, tls_http.map_or(HttpAddress::Nowhere, HttpAddress::At))?;
        // Last: a failure above leaves no file.
        let unix_socket = match &options.unix_socket {
            Some(path) => {
                let _in_runtime = runtime.enter();
                Some(UnixSocket::bind(path)?)
            }
            None => None,
        };
        let shared = Shared::new(options, db, (addresses, tls_addresses), tls, threads)?;
        let watchman = Watchman::start(&shared.gate, runtime.handle().clone()).map_err(no_threads)?;
        Ok(Self { watchman, runtime, listeners, tls_listeners, unix_socket, http, tls_http, shared })
    }

    /// Where `/livez`, `/readyz` and `/metrics` are answered.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(|(_, address)| *address)
    }

    /// Where the same is answered over TLS.
    pub fn tls_http_addr(&self) -> Option<SocketAddr> {
        self.tls_http.as_ref().map(|(_, address)| *address)
    }

    /// The first address it listens on, with the port that a port 0 became: one without TLS if there is any.
    ///
    /// # Panics
    /// Never: a server has an address.
    pub fn local_addr(&self) -> SocketAddr {
        let Shared { addresses, tls_addresses, .. } = &*self.shared;
        *addresses.iter().chain(tls_addresses).next().expect("bind refuses to be without")
    }

    /// The addresses it listens on without TLS, in the order of the options.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.shared.addresses
    }

    /// The addresses it listens on with TLS, in the order of the options.
    pub fn tls_addrs(&self) -> &[SocketAddr] {
        &self.shared.tls_addresses
    }

    /// Its TLS, if it has any: to read the certificate again while it runs.
    pub fn tls(&self) -> Option<TlsHandle> {
        self.shared.tls.clone().map(TlsHandle)
    }

    /// Serves until `shutdown` is done, or a client says `SHUTDOWN`. Then it accepts nobody any more, and each connection runs the commands that it
    /// has received, sends the replies and is closed, for which it has
    /// [`shutdown_wait`](ServerOptions::shutdown_wait).
    ///
    /// Call it from a thread outside of any async runtime; it blocks.
    pub fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { watchman, runtime, listeners, tls_listeners, mut unix_socket, http, tls_http, shared } =
            self;
        let wait = shared.options.shutdown_wait;
        runtime.block_on(async {
            let (stop, stopped) = watch::channel(false);
            // Nothing is sent: the channel is closed when the last connection has dropped its end.
            let (alive, mut all_gone) = mpsc::channel::<()>(1);
            let acceptor = Acceptor { shared: Arc::clone(&shared), stopped, alive };
            let tcp = listeners.into_iter().map(Listener::Tcp);
            for listener in tcp.chain(tls_listeners.into_iter().map(Listener::Tls)) {
                tokio::spawn(acceptor.clone().run(listener));
            }
            if let Some(UnixSocket { path, listener, .. }) = &mut unix_socket
                && let Some(listener) = listener.take()
            {
                let listener = Listener::Unix(listener, Arc::new(path.clone()));
                tokio::spawn(acceptor.clone().run(listener));
            }
            drop(acceptor);
            let pages = Arc::new(HttpServer::new(Arc::clone(&shared)));
            for (http, over) in [(http, Over::Plain), (tls_http, Over::Tls)] {
                let Some((listener, _)) = http else { continue };
                // It answers until the very end, so that `/readyz` can tell of it.
                tokio::spawn(Arc::clone(&pages).run(listener, over));
            }
            drop(pages);
            tokio::spawn(keep_house(Arc::clone(&shared)));
            let mut asked = std::pin::pin!(shared.end.notified());
            let _ = unless(shutdown, asked.as_mut()).await;
            shared.note_end();
            // Fails when nobody is left to be told.
            let _ = stop.send(true);
            // The time is up: whoever is left does not read its replies.
            let _ = timeout(wait, all_gone.recv()).await;
        });
        drop((watchman, unix_socket));
        runtime.shutdown_timeout(THREADS_WAIT);
    }
}

fn no_threads(error: std::io::Error) -> Error {
    Error::io("start the threads of the server", error)
}

fn bind_error(address: SocketAddr, error: std::io::Error) -> Error {
    if error.kind() == ErrorKind::AddrInUse {
        return Error::conflict(format!(
            "the address {address} is in use by another program; stop it or listen on another address"
        ));
    }
    Error::io(format_args!("listen on {address}"), error)
}

fn listen(runtime: &Runtime, address: SocketAddr) -> std::io::Result<TcpListener> {
    let _in_runtime = runtime.enter();
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A server that starts again need not wait for connections of the last one to time out.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Listens on all of these; the ports that a port 0 became are in the addresses.
fn listen_all(runtime: &Runtime, asked: &[SocketAddr]) -> Result<(Vec<TcpListener>, Vec<SocketAddr>)> {
    let (mut listeners, mut addresses) = (Vec::new(), Vec::new());
    for &address in asked {
        let listener = listen(runtime, address).map_err(|error| bind_error(address, error))?;
        addresses.push(listener.local_addr().map_err(|error| Error::io("ask for the address", error))?);
        listeners.push(listener);
    }
    Ok((listeners, addresses))
}

fn bind_http(runtime: &Runtime, http: HttpAddress) -> Result<Option<(TcpListener, SocketAddr)>> {
    let (HttpAddress::At(address) | HttpAddress::IfFree(address)) = http else { return Ok(None) };
    let listener = match listen(runtime, address) {
        Ok(listener) => listener,
        Err(error) if error.kind() == ErrorKind::AddrInUse && http == HttpAddress::IfFree(address) => {
            return Ok(None);
        }
        Err(error) => return Err(bind_error(address, error)),
    };
    let address = listener.local_addr().map_err(|error| Error::io("ask for the address", error))?;
    Ok(Some((listener, address)))
}

/// What has to be done once in a while: closes silent clients, and counts commands by the second.
async fn keep_house(shared: Arc<Shared>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut commands_before = 0;
    loop {
        ticks.tick().await;
        let commands = shared.stats.commands.get();
        // After CONFIG RESETSTAT there are fewer.
        let operations = commands.saturating_sub(commands_before);
        shared.operations_per_second.store(operations, Ordering::Relaxed);
        commands_before = commands;
        if let Some(silence) = shared.settings.idle_timeout() {
            shared.stats.idle_closed.add(shared.clients.kill_idle(silence));
        }
    }
}

enum Listener {
    Tcp(TcpListener),
    Tls(TcpListener),
    Unix(UnixListener, Arc<PathBuf>),
}

/// What a listener has taken.
enum Accepted {
    /// It can be served.
    Ready(Stream),
    /// It has to become private first.
    Unsecured(TcpStream),
}

/// Both ends of a connection.
struct Ends {
    address: Address,
    local_address: Address,
}

impl Listener {
    async fn accept(&self) -> std::io::Result<(Accepted, Ends)> {
        match self {
            Self::Tcp(listener) | Self::Tls(listener) => {
                let (stream, address) = listener.accept().await?;
                let local_address = stream.local_addr().unwrap_or(address);
                let ends =
                    Ends { address: Address::Tcp(address), local_address: Address::Tcp(local_address) };
                let is_plain = matches!(self, Self::Tcp(_));
                let accepted =
                    if is_plain { Accepted::Ready(Stream::Tcp(stream)) } else { Accepted::Unsecured(stream) };
                Ok((accepted, ends))
            }
            Self::Unix(listener, path) => {
                let (stream, _) = listener.accept().await?;
                let address = Address::Unix(Arc::clone(path));
                let ends = Ends { address: address.clone(), local_address: address };
                Ok((Accepted::Ready(Stream::Unix(stream)), ends))
            }
        }
    }
}

/// What a client is told that does not speak TLS where it has to.
const SPEAK_TLS: &[u8] = b"-ERR this address speaks TLS only; connect with TLS, as with rediss://\r\n";

/// Takes connections from one listener.
#[derive(Clone)]
struct Acceptor {
    shared: Arc<Shared>,
    stopped: watch::Receiver<bool>,
    alive: mpsc::Sender<()>,
}

impl Acceptor {
    async fn run(self, listener: Listener) {
        let mut stop = std::pin::pin!(is_true(self.stopped.clone()));
        while let Some(accepted) = unless(listener.accept(), stop.as_mut()).await {
            match accepted {
                Ok((Accepted::Ready(stream), ends)) => self.admit(stream, ends),
                Ok((Accepted::Unsecured(stream), ends)) => self.secure(stream, ends),
                // The connection has gone, or there are no file descriptors: some come back when clients go.
                Err(_) => sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    /// Starts to serve a connection, or tells it that there are too many.
    fn admit(&self, stream: Stream, ends: Ends) {
        let Some(registration) = self.register(ends, None) else {
            // The socket's buffer is empty and takes it at once, or the client does not hear of it.
            let _ = stream.socket().send(&too_many_clients());
            return;
        };
        if let Stream::Tcp(stream) = &stream {
            self.tune(stream);
        }
        tokio::spawn(self.clone().serve(stream, registration));
    }

    /// The same over TLS. It is no client before it is private, and handshakes hold up nobody: neither others nor an end.
    fn secure(&self, stream: TcpStream, ends: Ends) {
        let (place, evicts) = self.shared.handshakes.begin();
        self.shared.stats.tls_evicted.add(usize::from(evicts));
        self.tune(&stream);
        let acceptor = self.clone();
        tokio::spawn(async move {
            let Some(secured) = acceptor.shake_hands(stream, place).await else { return };
            match acceptor.register(ends, Some(secured.peer())) {
                Some(registration) => acceptor.serve(Stream::Tls(Box::new(secured)), registration).await,
                None => secured.refuse(&too_many_clients()).await,
            }
        });
    }

    /// A handshake, unless somebody else wants its place or the server ends.
    async fn shake_hands(&self, stream: TcpStream, mut place: Place) -> Option<Secured> {
        let mut stop = std::pin::pin!(is_true(self.stopped.clone()));
        let given_up = std::pin::pin!(unless(&mut place.evicted, stop.as_mut()));
        // On the heap: what a handshake takes is not to be part of the connection that comes of it.
        let hello = Box::pin(serve_hello(&self.shared, stream, SPEAK_TLS));
        unless(hello, given_up).await.flatten()
    }

    fn register(&self, ends: Ends, tls: Option<TlsPeer>) -> Option<Registration> {
        let shared = &self.shared;
        let clients_max = shared.settings.clients_max.load(Ordering::Relaxed);
        let registration = shared.clients.register(ends.address, ends.local_address, tls, clients_max);
        let counter = if registration.is_some() { &shared.stats.connections } else { &shared.stats.rejected };
        counter.add(1);
        registration
    }

    async fn serve(self, stream: Stream, registration: Registration) {
        let Self { shared, stopped, alive } = self;
        Connection::new(stream, shared, registration).serve(stopped).await;
        drop(alive);
    }

    fn tune(&self, stream: &TcpStream) {
        tune(stream, Duration::from_secs(self.shared.settings.keepalive_s.load(Ordering::Relaxed)));
    }
}

fn too_many_clients() -> bytes::BytesMut {
    let mut refusal = bytes::BytesMut::new();
    Failure::TOO_MANY_CLIENTS.to_reply().encode(Protocol::Resp2, &mut refusal);
    refusal
}

/// Done when the server is asked to end.
async fn is_true(mut stopped: watch::Receiver<bool>) {
    // An error means that the server is gone: stop as well.
    let _ = stopped.wait_for(|&stopped| stopped).await;
}

/// Replies leave at once, and the operating system asks whether a silent client is still there.
fn tune(stream: &TcpStream, keepalive: Duration) {
    // Without these the connection works as well.
    let _ = stream.set_nodelay(true);
    if !keepalive.is_zero() {
        let _ = SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(keepalive));
    }
}

/// What the first future gives, unless the second is done before.
async fn unless<T, S>(
    first: impl Future<Output = T>,
    mut stop: impl Future<Output = S> + Unpin,
) -> Option<T> {
    let mut first = std::pin::pin!(first);
    std::future::poll_fn(|context| {
        if std::pin::Pin::new(&mut stop).poll(context).is_ready() {
            return std::task::Poll::Ready(None);
        }
        first.as_mut().poll(context).map(Some)
    })
    .await
}
