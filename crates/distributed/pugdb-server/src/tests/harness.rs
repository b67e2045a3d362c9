//! A server for a test and its clients, every wait of them bounded.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use bytes::BytesMut;
use pugdb::Database;
use pugdb_wire::resp::{Reply, ReplyDecoder, ReplyLimits, encode_request};
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::world::World;
use crate::shared::Shared;
use crate::{Server, ServerOptions};

/// Far more than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A server that is stopped when the test ends.
pub(crate) struct Running {
    pub(crate) shared: Arc<Shared>,
    pub(crate) db: Database,
    pub(crate) world: World,
    pub(crate) http_address: Option<SocketAddr>,
    pub(crate) tls_http_address: Option<SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    pub(crate) dir: Option<TempDir>,
}

/// Options for a free port.
pub(crate) fn options() -> ServerOptions {
    ServerOptions { addresses: vec![SocketAddr::from(([127, 0, 0, 1], 0))], ..ServerOptions::default() }
}

impl Running {
    pub(crate) fn in_memory() -> Self {
        Self::in_memory_with(options())
    }

    pub(crate) fn in_memory_with(options: ServerOptions) -> Self {
        let world = World::new();
        let db = Database::builder().env(world.env()).in_memory().unwrap();
        Self::start(db, world, None, options)
    }

    pub(crate) fn on_disk() -> Self {
        Self::on_disk_with(options())
    }

    pub(crate) fn on_disk_with(options: ServerOptions) -> Self {
        Self::on_disk_as(Database::builder(), options)
    }

    pub(crate) fn on_disk_without_cache() -> Self {
        Self::on_disk_as(Database::builder().cache_bytes(0), options())
    }

    pub(crate) fn on_disk_as(builder: pugdb::Builder, options: ServerOptions) -> Self {
        let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
        let db = builder.env(world.env()).open(dir.path().join("data")).unwrap();
        Self::start(db, world, Some(dir), options)
    }

    fn start(db: Database, world: World, dir: Option<TempDir>, options: ServerOptions) -> Self {
        let server = Server::bind(options, db.clone()).unwrap();
        let (shared, http_address) = (Arc::clone(&server.shared), server.http_addr());
        let tls_http_address = server.tls_http_addr();
        let (stop, stopped) = oneshot::channel();
        let run = move || {
            server.run(async {
                let _ = stopped.await;
            });
        };
        let thread = Builder::new().spawn(run).unwrap();
        Self {
            shared,
            db,
            world,
            http_address,
            tls_http_address,
            stop: Some(stop),
            thread: Some(thread),
            dir,
        }
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.shared.addresses[0])
    }

    /// Waits for what the server does after its last reply.
    pub(crate) fn eventually(&self, condition: impl Fn(&Shared) -> bool) {
        let mut client = self.connect();
        // Each round gives the server a turn.
        let came = (0..100_000).any(|_| condition(&self.shared) || client.call(&["PING"]) != "+PONG");
        assert!(came && condition(&self.shared), "it did not come to that");
    }

    /// Asks the server to end, and does not wait for it.
    pub(crate) fn ask_to_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Waits until the server has ended.
    pub(crate) fn wait_for_end(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.ask_to_stop();
        if !std::thread::panicking() {
            self.wait_for_end();
            let closed = self.db.close();
            // A database that has failed says so once more.
            assert!(closed.is_ok() || self.db.failure().is_some(), "{closed:?}");
        }
    }
}

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    decoder: ReplyDecoder,
    input: BytesMut,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, decoder: ReplyDecoder::new(ReplyLimits::default()), input: BytesMut::new() }
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// The next reply; `None` when the server has closed the connection.
    pub(crate) fn reply(&mut self) -> Option<Reply> {
        let mut space = [0; 16 << 10];
        loop {
            if let Some(reply) = self.decoder.decode(&mut self.input).unwrap() {
                return Some(reply);
            }
            match self.stream.read(&mut space) {
                Ok(0) => return None,
                Ok(count) => self.input.extend_from_slice(&space[..count]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no reply: {error}"),
            }
        }
    }

    /// The next reply, as [`render`] writes it, or `closed`.
    pub(crate) fn text(&mut self) -> String {
        self.reply().map_or_else(|| "closed".into(), |reply| render(&reply))
    }

    pub(crate) fn call(&mut self, arguments: &[&str]) -> String {
        self.send(request(arguments));
        self.text()
    }

    /// Sends nothing any more, and reads what comes until the server closes.
    pub(crate) fn finish(mut self) -> Vec<String> {
        self.stream.shutdown(Shutdown::Write).unwrap();
        std::iter::from_fn(|| self.reply()).map(|reply| render(&reply)).collect()
    }

    /// Whether nothing has come that is not read.
    pub(crate) fn is_silent(&mut self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let outcome = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        outcome.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// A command as clients send it.
pub(crate) fn request(arguments: &[impl AsRef<[u8]>]) -> BytesMut {
    let mut bytes = BytesMut::new();
    encode_request(arguments, &mut bytes);
    bytes
}

/// A reply on one line: `+OK`, `-ERR ...`, `:1`, `"text"`, `nil`, `[a, b]`, `{key: value}`, `~[a, b]`, `txt"text"`.
pub(crate) fn render(reply: &Reply) -> String {
    let all = |values: &[Reply]| values.iter().map(render).collect::<Vec<_>>().join(", ");
    let quoted = |bytes: &[u8]| bytes.escape_ascii().to_string();
    match reply {
        Reply::Simple(text) => format!("+{text}"),
        Reply::Error(text) => format!("-{text}"),
        Reply::Integer(number) => format!(":{number}"),
        Reply::Bulk(bytes) => format!("\"{}\"", quoted(bytes)),
        Reply::Null => "nil".into(),
        Reply::NullArray => "nil array".into(),
        Reply::Array(values) => format!("[{}]", all(values)),
        Reply::Set(values) => format!("~[{}]", all(values)),
        Reply::Push(values) => format!(">[{}]", all(values)),
        Reply::Map(pairs) => {
            let mut text = String::from("{");
            for (index, (key, value)) in pairs.iter().enumerate() {
                let separator = if index == 0 { "" } else { ", " };
                write!(text, "{separator}{}: {}", render(key), render(value)).unwrap();
            }
            text + "}"
        }
        Reply::Double(number) => format!(",{number}"),
        Reply::Boolean(boolean) => format!("#{boolean}"),
        Reply::BigNumber(digits) => format!("({digits}"),
        Reply::Verbatim { format, text } => format!("{}\"{}\"", quoted(format), quoted(text)),
    }
}
