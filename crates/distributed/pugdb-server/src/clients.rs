//! Who is connected: what `CLIENT LIST` and `INFO` tell.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pugdb::Watch;
use pugdb_wire::resp::Protocol;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::tls::{CertificateInfo, TlsPeer};

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    /// Whoever connects to a socket in the file system has no name of its own.
    Unix(Arc<PathBuf>),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{}:0", path.display()),
        }
    }
}

/// One connection, as others see it.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: u64,
    pub(crate) address: Address,
    pub(crate) local_address: Address,
    /// Over TLS.
    tls: Option<TlsPeer>,
    pub(crate) connected_at: Instant,
    /// Milliseconds from `connected_at` to when bytes last came.
    active_ms: AtomicU64,
    /// It waits for the client, not the client for it.
    is_idle: AtomicBool,
    is_killed: AtomicBool,
    killed: Notify,
    /// What the client says of itself and does.
    state: Mutex<ClientState>,
}

/// What changes while a client is connected.
#[derive(Debug, Default)]
pub(crate) struct ClientState {
    pub(crate) name: String,
    /// The user it is, or was taken for.
    pub(crate) user: String,
    /// Whether it is that user.
    pub(crate) is_known: bool,
    pub(crate) library_name: String,
    pub(crate) library_version: String,
    pub(crate) database: usize,
    pub(crate) protocol: Protocol,
    pub(crate) last_command: &'static str,
    /// Commands that are queued since `MULTI`.
    pub(crate) queued: Option<usize>,
    /// The keys that it watches.
    pub(crate) watches: Vec<Arc<Watch>>,
    /// It waits for the end of a pause, a sleep or replicas.
    pub(crate) is_waiting: bool,
}

impl ClientState {
    /// The letters of `CLIENT LIST`.
    fn flags(&self, address: &Address) -> String {
        let is_broken = || self.watches.iter().any(|watch| watch.is_broken());
        let flags = [
            (self.queued.is_some(), 'x'),
            (self.is_waiting, 'b'),
            (is_broken(), 'd'),
            (matches!(address, Address::Unix(_)), 'U'),
        ];
        let flags: String = flags.iter().filter_map(|(is_set, letter)| is_set.then_some(*letter)).collect();
        if flags.is_empty() { "N".into() } else { flags }
    }
}

impl Client {
    /// The certificate that the client has shown and that was checked: whoever maps certificates to users begins here.
    pub(crate) fn certificate(&self) -> Option<&CertificateInfo> {
        self.tls.as_ref()?.certificate.as_ref()
    }

    pub(crate) fn see<R>(&self, look: impl FnOnce(&ClientState) -> R) -> R {
        look(&self.state.lock())
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut ClientState)) {
        change(&mut self.state.lock());
    }

    /// Notes the command that runs.
    pub(crate) fn touch(&self, command: &'static str) {
        self.state.lock().last_command = command;
    }

    /// Notes that bytes have come and are being worked on.
    pub(crate) fn note_active(&self) {
        let ms = u64::try_from(self.connected_at.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.active_ms.store(ms, Ordering::Relaxed);
        self.is_idle.store(false, Ordering::Relaxed);
    }

    /// Notes that everything is answered.
    pub(crate) fn note_idle(&self) {
        self.is_idle.store(true, Ordering::Relaxed);
    }

    /// How long it has been silent.
    fn silence(&self) -> Duration {
        let active = Duration::from_millis(self.active_ms.load(Ordering::Relaxed));
        self.connected_at.elapsed().saturating_sub(active)
    }

    /// Ends the connection: it is woken from whatever it waits for.
    fn kill(&self) {
        self.is_killed.store(true, Ordering::Release);
        self.killed.notify_waiters();
    }

    pub(crate) fn is_killed(&self) -> bool {
        self.is_killed.load(Ordering::Acquire)
    }

    /// Done when it is to end.
    pub(crate) async fn killed(&self) {
        let mut killed = pin!(self.killed.notified());
        // Before the look: a kill between both is not missed.
        killed.as_mut().enable();
        if !self.is_killed() {
            killed.await;
        }
    }

    /// The line of `CLIENT LIST`, without its end.
    pub(crate) fn describe(&self, out: &mut String) {
        let state = self.state.lock();
        let age = self.connected_at.elapsed().as_secs();
        let idle = self.silence().as_secs();
        let flags = state.flags(&self.address);
        let queued = state.queued.map_or("-1".into(), |queued| queued.to_string());
        let resp = if state.protocol == Protocol::Resp3 { 3 } else { 2 };
        let command = if state.last_command.is_empty() { "NULL" } else { state.last_command };
        // Writing to a string does not fail.
        let _ = write!(
            out,
            "id={} addr={} laddr={} fd=-1 name={} age={age} idle={idle} flags={flags} db={} sub=0 psub=0 ssub=0 \
             multi={queued} cmd={command} user={} redir=-1 resp={resp} lib-name={} lib-ver={}",
            self.id,
            self.address,
            self.local_address,
            state.name,
            state.database,
            state.user,
            state.library_name,
            state.library_version
        );
        if let Some(tls) = &self.tls {
            let _ = write!(out, " tls={}", tls.version);
        }
        if let Some(certificate) = self.certificate() {
            let name = certificate.common_name.as_deref().map(field).unwrap_or_default();
            let _ = write!(out, " tls-cn={name} tls-fingerprint={}", certificate.fingerprint);
        }
    }
}

/// A name as one field of a line: what would end a field or a line is percent-encoded, as in URLs.
fn field(name: &str) -> String {
    name.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'!'..=b'~' if !matches!(byte, b'%' | b'=') => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
        out
    })
}

/// All connections.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    connected: Mutex<Connected>,
}

#[derive(Debug, Default)]
struct Connected {
    last_id: u64,
    by_id: BTreeMap<u64, Arc<Client>>,
}

impl Clients {
    /// Adds a connection, if there are fewer than `clients_max`.
    pub(crate) fn register(
        self: &Arc<Self>,
        address: Address,
        local_address: Address,
        tls: Option<TlsPeer>,
        clients_max: usize,
    ) -> Option<Registration> {
        let mut connected = self.connected.lock();
        if connected.by_id.len() >= clients_max {
            return None;
        }
        connected.last_id += 1;
        let client = Arc::new(Client {
            id: connected.last_id,
            address,
            local_address,
            tls,
            connected_at: Instant::now(),
            active_ms: AtomicU64::new(0),
            is_idle: AtomicBool::new(true),
            is_killed: AtomicBool::new(false),
            killed: Notify::new(),
            state: Mutex::default(),
        });
        connected.by_id.insert(client.id, Arc::clone(&client));
        drop(connected);
        Some(Registration { clients: Arc::clone(self), client })
    }

    pub(crate) fn count(&self) -> usize {
        self.connected.lock().by_id.len()
    }

    /// Takes a connection off the list and ends it; it notices as soon as it gets to run.
    pub(crate) fn kill(&self, client: &Client) {
        self.connected.lock().by_id.remove(&client.id);
        client.kill();
    }

    /// Ends connections that have been silent for so long while nothing was to be done for them; how many.
    pub(crate) fn kill_idle(&self, silence: Duration) -> usize {
        let is_over =
            |client: &Arc<Client>| client.is_idle.load(Ordering::Relaxed) && client.silence() >= silence;
        let over: Vec<_> = self.all().into_iter().filter(is_over).collect();
        for client in &over {
            self.kill(client);
        }
        over.len()
    }

    /// The connections in the order they came.
    pub(crate) fn all(&self) -> Vec<Arc<Client>> {
        self.connected.lock().by_id.values().cloned().collect()
    }
}

/// A place among the clients, given up when it is dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    clients: Arc<Clients>,
    pub(crate) client: Arc<Client>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.clients.connected.lock().by_id.remove(&self.client.id);
    }
}
