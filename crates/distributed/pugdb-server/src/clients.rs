//! Who is connected: what `CLIENT LIST` and `INFO` tell.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use pugdb_wire::resp::Protocol;
use tokio::time::Instant;

/// One connection, as others see it.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: u64,
    pub(crate) address: SocketAddr,
    pub(crate) local_address: SocketAddr,
    pub(crate) connected_at: Instant,
    /// Milliseconds from `connected_at` to the last command.
    active_ms: AtomicU64,
    /// What the client says of itself and does.
    state: Mutex<ClientState>,
}

/// What changes while a client is connected.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientState {
    pub(crate) name: String,
    pub(crate) library_name: String,
    pub(crate) library_version: String,
    pub(crate) database: usize,
    pub(crate) protocol: Protocol,
    pub(crate) last_command: &'static str,
}

impl Client {
    pub(crate) fn state(&self) -> ClientState {
        self.state.lock().clone()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut ClientState)) {
        change(&mut self.state.lock());
    }

    /// Notes that a command ran now.
    pub(crate) fn touch(&self, command: &'static str) {
        let ms = u64::try_from(self.connected_at.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.active_ms.store(ms, Ordering::Relaxed);
        self.state.lock().last_command = command;
    }

    /// The line of `CLIENT LIST`, without its end.
    pub(crate) fn describe(&self, out: &mut String) {
        let state = self.state();
        let age = self.connected_at.elapsed().as_secs();
        let idle = age.saturating_sub(self.active_ms.load(Ordering::Relaxed) / 1000);
        let resp = if state.protocol == Protocol::Resp3 { 3 } else { 2 };
        let command = if state.last_command.is_empty() { "NULL" } else { state.last_command };
        // Writing to a string does not fail.
        let _ = write!(
            out,
            "id={} addr={} laddr={} fd=-1 name={} age={age} idle={idle} flags=N db={} sub=0 psub=0 ssub=0 multi=-1 \
             cmd={command} user=default redir=-1 resp={resp} lib-name={} lib-ver={}",
            self.id,
            self.address,
            self.local_address,
            state.name,
            state.database,
            state.library_name,
            state.library_version
        );
    }
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
        address: SocketAddr,
        local_address: SocketAddr,
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
            connected_at: Instant::now(),
            active_ms: AtomicU64::new(0),
            state: Mutex::default(),
        });
        connected.by_id.insert(client.id, Arc::clone(&client));
        drop(connected);
        Some(Registration { clients: Arc::clone(self), client })
    }

    pub(crate) fn count(&self) -> usize {
        self.connected.lock().by_id.len()
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
