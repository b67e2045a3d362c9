//! A client of a server: one connection, over TLS or plain, requests in RESP, replies waited for.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pugdb_wire::resp::{Reply, ReplyDecoder, ReplyLimits, encode_request};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use crate::outcome::{Exit, Failure};
use crate::password::Credentials;
use crate::text::escaped;
use crate::tls::{ClientTls, Trust, explain};
use crate::url::ServerUrl;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A count of a large keyspace walks through all of it before the first byte of the answer.
const REPLY_TIMEOUT: Duration = Duration::from_mins(5);
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);
const READ_BYTES: usize = 64 << 10;

/// What a value is put with.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PutOptions<'a> {
    pub(crate) expire_ms: Option<u64>,
    /// Whom it is about. A server that is not PugDB refuses it.
    pub(crate) subject: Option<&'a str>,
}

/// A connection to a server, with the database chosen.
pub(crate) struct Remote {
    url: ServerUrl,
    link: Link,
    decoder: ReplyDecoder,
    input: BytesMut,
    output: BytesMut,
    chunk: Vec<u8>,
    /// The connection is of no use any more.
    is_lost: bool,
}

impl Remote {
    pub(crate) fn connect(
        url: &ServerUrl,
        database: u8,
        credentials: Option<&Credentials>,
        tls: &ClientTls,
    ) -> Result<Self, Failure> {
        // First: what is wrong with its files needs no server.
        let trust = if url.tls { Some(Trust::of(tls)?) } else { None };
        let stream = connect(url).map_err(|error| {
            Failure::new(
                Exit::Unavailable,
                format!("no server answers on {url}: {error}; is `pugdb serve` running?"),
            )
        })?;
        let link = match trust {
            None => Link::Plain(stream),
            Some(trust) => Link::secure(stream, url, trust)?,
        };
        let mut remote = Self {
            url: url.clone(),
            link,
            decoder: ReplyDecoder::new(ReplyLimits::default()),
            input: BytesMut::new(),
            output: BytesMut::new(),
            chunk: vec![0; READ_BYTES],
            is_lost: false,
        };
        if let Some(Credentials { user, password }) = credentials {
            remote.ask(&[b"AUTH", user.as_bytes(), password.as_bytes()])?;
        }
        if database != 0 {
            remote.ask(&[b"SELECT", database.to_string().as_bytes()])?;
        }
        Ok(remote)
    }

    /// Sends a request and waits for its reply. An error of the server is a failure.
    pub(crate) fn ask(&mut self, request: &[&[u8]]) -> Result<Reply, Failure> {
        self.send(request)?;
        self.reply()
    }

    /// As [`ask`](Self::ask), and an error of the server is a reply like others.
    pub(crate) fn exchange(&mut self, request: &[&[u8]]) -> Result<Reply, Failure> {
        self.send(request)?;
        self.any_reply()
    }

    /// True when the connection broke: the next request needs a new one.
    pub(crate) fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// Sends a request whose [`reply`](Self::reply) is taken later. Small ones only: nobody reads meanwhile.
    pub(crate) fn send(&mut self, request: &[&[u8]]) -> Result<(), Failure> {
        self.output.clear();
        encode_request(request, &mut self.output);
        let written = self.link.write_all(&self.output).and_then(|()| self.link.flush());
        written.map_err(|error| self.lost(&error))
    }

    /// The next reply. An error of the server is a failure.
    pub(crate) fn reply(&mut self) -> Result<Reply, Failure> {
        match self.any_reply()? {
            Reply::Error(message) => Err(self.refused(&message)),
            reply => Ok(reply),
        }
    }

    fn any_reply(&mut self) -> Result<Reply, Failure> {
        loop {
            match self.decoder.decode(&mut self.input) {
                Ok(Some(Reply::Push(_))) => {}
                Ok(Some(reply)) => return Ok(reply),
                Ok(None) => {
                    let read = self.link.read(&mut self.chunk);
                    let read = read.map_err(|error| self.lost(&error))?;
                    if read == 0 {
                        return Err(self.lost(&io::ErrorKind::UnexpectedEof.into()));
                    }
                    self.input.extend_from_slice(&self.chunk[..read]);
                }
                Err(error) => {
                    self.is_lost = true;
                    let message = format!("what answers on {} does not speak RESP: {error}", self.url);
                    return Err(Failure::new(Exit::Unavailable, message));
                }
            }
        }
    }

    pub(crate) fn get(&mut self, key: &[u8]) -> Result<Option<Bytes>, Failure> {
        self.send(&[b"GET", key])?;
        self.value()
    }

    /// The reply to a `GET`.
    pub(crate) fn value(&mut self) -> Result<Option<Bytes>, Failure> {
        match self.reply()? {
            Reply::Bulk(value) => Ok(Some(value)),
            Reply::Null => Ok(None),
            _ => Err(self.unexpected("GET")),
        }
    }

    pub(crate) fn put(&mut self, key: &[u8], value: &[u8], options: &PutOptions<'_>) -> Result<(), Failure> {
        let ms = options.expire_ms.map(|ms| ms.to_string());
        let mut request: Vec<&[u8]> = vec![b"SET", key, value];
        request.extend(ms.iter().flat_map(|ms| [&b"PX"[..], ms.as_bytes()]));
        request.extend(options.subject.iter().flat_map(|name| [&b"SUBJECT"[..], name.as_bytes()]));
        let reply = self.ask(&request)?;
        if reply == Reply::OK { Ok(()) } else { Err(self.unexpected("SET")) }
    }

    /// Replies of what is asked next may take so long.
    pub(crate) fn wait_up_to(&self, time: Duration) -> Result<(), Failure> {
        let stream = match &self.link {
            Link::Plain(stream) => stream,
            Link::Tls(stream) => &stream.sock,
        };
        let set = stream.set_read_timeout(Some(time));
        set.map_err(|error| Failure::io(format!("wait for {}", self.url), &error))
    }

    /// The answer of a command that counts.
    pub(crate) fn count(&mut self, request: &[&[u8]]) -> Result<u64, Failure> {
        match self.ask(request)? {
            Reply::Integer(count) => {
                u64::try_from(count).map_err(|_| self.unexpected("a command that counts"))
            }
            _ => Err(self.unexpected("a command that counts")),
        }
    }

    /// When a key expires, in milliseconds since 1970; `None` when it does not, is gone, or the server is older than
    /// Redis 7 and does not tell.
    pub(crate) fn expires_at_ms(&mut self, key: &[u8]) -> Result<Option<u64>, Failure> {
        self.send(&[b"PEXPIRETIME", key])?;
        self.expiry()
    }

    /// The reply to a `PEXPIRETIME`.
    pub(crate) fn expiry(&mut self) -> Result<Option<u64>, Failure> {
        match self.any_reply()? {
            Reply::Error(message) if message.starts_with("ERR unknown command") => Ok(None),
            Reply::Error(message) => Err(self.refused(&message)),
            Reply::Integer(at) => Ok(u64::try_from(at).ok()),
            _ => Err(self.unexpected("PEXPIRETIME")),
        }
    }

    /// What the server says about itself, as text.
    pub(crate) fn info(&mut self) -> Result<String, Failure> {
        match self.ask(&[b"INFO"])? {
            Reply::Bulk(text) | Reply::Verbatim { text, .. } => {
                Ok(String::from_utf8_lossy(&text).into_owned())
            }
            _ => Err(self.unexpected("INFO")),
        }
    }

    /// One step through all keys: the next cursor and some keys.
    pub(crate) fn scan_step(
        &mut self,
        cursor: &[u8],
        pattern: &[u8],
    ) -> Result<(Bytes, Vec<Bytes>), Failure> {
        let reply = self.ask(&[b"SCAN", cursor, b"MATCH", pattern, b"COUNT", b"1000"])?;
        let Reply::Array(parts) = reply else { return Err(self.unexpected("SCAN")) };
        let Ok([Reply::Bulk(next), Reply::Array(keys)]) = <[Reply; 2]>::try_from(parts) else {
            return Err(self.unexpected("SCAN"));
        };
        let keys: Option<Vec<Bytes>> = keys.into_iter().map(bulk).collect();
        Ok((next, keys.ok_or_else(|| self.unexpected("SCAN"))?))
    }

    fn lost(&mut self, error: &io::Error) -> Failure {
        self.is_lost = true;
        let reason = match error.kind() {
            io::ErrorKind::UnexpectedEof => "the server closed it".to_owned(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "no answer came in time".to_owned(),
            _ => match explain(error, &self.url, "") {
                // With TLS 1.3 a server looks at a client's certificate when the client is through with the handshake.
                Some(explained) => return Failure::new(Exit::Unavailable, explained),
                None => error.to_string(),
            },
        };
        Failure::new(Exit::Unavailable, format!("the connection to {} was lost: {reason}", self.url))
    }

    pub(crate) fn refused(&self, message: &str) -> Failure {
        let advice = if message.starts_with("NOAUTH") {
            " Say who you are by --user and --password-file, PUGDB_PASSWORD, or in the URL."
        } else {
            ""
        };
        let message = escaped(message.as_bytes());
        Failure::new(Exit::Unavailable, format!("the server on {} refused: {message}{advice}", self.url))
    }

    pub(crate) fn unexpected(&self, command: &str) -> Failure {
        let message =
            format!("the server on {} answered {command} in a way that is not known here", self.url);
        Failure::new(Exit::Unavailable, message)
    }
}

fn bulk(reply: Reply) -> Option<Bytes> {
    if let Reply::Bulk(bytes) = reply { Some(bytes) } else { None }
}

/// What a connection runs over.
enum Link {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Link {
    /// Makes a connection private. The name that was asked for is the one that the server has to have.
    fn secure(mut stream: TcpStream, url: &ServerUrl, trust: Trust) -> Result<Self, Failure> {
        let name = ServerName::try_from(url.host.clone()).map_err(|_| {
            Failure::usage(format!("{} is no name that a certificate could be for", url.host))
        })?;
        let failed = |error: io::Error| {
            let explained = explain(&error, url, &trust.authority).unwrap_or_else(|| match error.kind() {
                io::ErrorKind::UnexpectedEof => {
                    format!("what answers on {url} closed the connection instead of speaking TLS")
                }
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                    format!("what answers on {url} did not speak TLS in time")
                }
                _ => format!("no private connection to {url} came about: {error}"),
            });
            Failure::new(Exit::Unavailable, explained)
        };
        let mut session = ClientConnection::new(trust.config, name)
            .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let patience = |stream: &TcpStream, time| stream.set_read_timeout(Some(time)).map_err(failed);
        patience(&stream, CONNECT_TIMEOUT)?;
        while session.is_handshaking() {
            session.complete_io(&mut stream).map_err(failed)?;
        }
        patience(&stream, REPLY_TIMEOUT)?;
        Ok(Self::Tls(Box::new(StreamOwned::new(session, stream))))
    }
}

impl Read for Link {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

impl Drop for Link {
    /// Says goodbye, so that the server knows that nobody on the way has cut the connection.
    fn drop(&mut self) {
        if let Self::Tls(stream) = self {
            stream.conn.send_close_notify();
            // Whoever is gone need not be told, nor waited for.
            let _ = stream.sock.set_write_timeout(Some(GOODBYE_TIMEOUT));
            let _ = stream.flush();
        }
    }
}

/// Tries every address of the host.
fn connect(url: &ServerUrl) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in (url.host.as_str(), url.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
                stream.set_write_timeout(Some(REPLY_TIMEOUT))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
