//! `serve`: opens the database, answers Redis clients until a signal comes, closes the database. One of the two places
//! where the parts of a PugDB are chosen.

use std::future::poll_fn;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use pugdb::audit::{AuditOptions, OnFailure};
use pugdb::{Builder, Database, LocalTables};
use pugdb_server::{HttpAddress, Server, ServerOptions, TlsHandle, TlsOccasions, shutdown_signal};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use crate::arguments::{AuditFailure, ServeArguments};
use crate::audit;
use crate::interrupt::Interrupt;
use crate::made;
use crate::outcome::{Exit, Failure};
use crate::output::{Format, status};
use crate::sizing::{MemoryLimit, SERVE_MEMORY_BYTES};
use crate::target::{HTTP_DEFAULT, STOP_FIRST, open_database};
use crate::text::human_bytes;
use crate::tls::{Accepted, Clients, Exposure, Served};

/// Log, tables being written, listeners and what else is open, beside the tables that are kept open.
const FILES_BESIDE_TABLES: usize = 256;

pub(crate) fn serve(arguments: &ServeArguments, format: Format) -> Result<Exit, Failure> {
    let places = Places::choose(arguments)?;
    let secured = |users| {
        places.check(arguments, users)?;
        Served::prepare(&arguments.tls, places.tls, places.tls_http)
    };
    // Where there is no database there are no users, and none is made for nothing.
    let is_new = !made::is_there(&arguments.data);
    let early = if is_new { Some(secured(false)?) } else { None };
    // First: the database keeps as many tables open as the process may have files.
    let open_files = raise_open_files();
    let memory = arguments.memory.choose(SERVE_MEMORY_BYTES, MemoryLimit::ask());
    let builder = Database::builder().memory_bytes(memory.bytes).durability(arguments.durability);
    let scrub = Some(Duration::from_hours(24) * arguments.scrub_days.into()).filter(|every| !every.is_zero());
    let builder = builder.scrub_interval(scrub).reserve_bytes(arguments.reserve as u64);
    let builder = match arguments.background_rate {
        Some(bytes) => builder.background_bytes_per_second(bytes as u64),
        None => builder,
    };
    let builder = builder.expect_generation(arguments.expect_generation);
    let db = if is_new { make(builder, arguments)? } else { open(builder, arguments)? };
    let tls = early.map_or_else(|| secured(users_exist(&db)?), Ok)?;
    let options = ServerOptions {
        addresses: places.resp.into_iter().collect(),
        tls: tls.as_ref().map(|tls| tls.options.clone()),
        unix_socket: arguments.unix_socket.clone(),
        http: places.http,
        data_dir: Some(arguments.data.clone()),
        max_clients: clients_that_fit(arguments.max_clients, open_files),
        idle_timeout: Some(Duration::from_secs(arguments.idle_timeout.into())).filter(|idle| !idle.is_zero()),
        ..ServerOptions::default()
    };
    let server = Server::bind(options, db.clone())?;
    let teller = Teller(format);
    let (data, recovery) = (arguments.data.display().to_string(), db.recovery_report().to_string());
    let (version, taken) = (env!("CARGO_PKG_VERSION"), human_bytes(memory.bytes as u64));
    teller.tell(
        &format!("pugdb {version}, data in {data}: {recovery}; memory {taken}, {}", memory.why),
        &json!({
            "event": "start", "version": version, "data": data, "recovery": recovery,
            "memory_bytes": memory.bytes, "memory_why": memory.why, "generation": db.generation(),
        }),
    );
    if db.recovery_report().created {
        teller.tell_made(&db, &arguments.data);
    }
    let certificates = server.tls().zip(tls);
    if let Some((handle, served)) = &certificates {
        teller.tell_all(served.introduce(handle)?);
    }
    let ready = Ready::of(&server, arguments.no_http);
    server.run(until_signal(ready, teller, certificates));
    db.close()?;
    let generation = db.generation();
    teller.tell(
        &format!("closed in good order at generation {generation}"),
        &json!({ "event": "closed", "generation": generation }),
    );
    Ok(Exit::Done)
}

fn make(builder: Builder, arguments: &ServeArguments) -> Result<Database, Failure> {
    let data = &arguments.data;
    let builder = made::seal(builder, &arguments.keys, arguments.no_encryption, data)?;
    made::open(with_audit(builder, !arguments.no_encryption, arguments), data, STOP_FIRST)
}

fn open(builder: Builder, arguments: &ServeArguments) -> Result<Database, Failure> {
    let data = &arguments.data;
    let is_encrypted = arguments.keys.is_there(data)?;
    let builder = arguments.keys.apply(builder, data)?;
    open_database(with_audit(builder, is_encrypted, arguments), data, STOP_FIRST)
}

/// The same builder, with an audit log if there is to be one.
fn with_audit(builder: Builder, is_encrypted: bool, arguments: &ServeArguments) -> Builder {
    if !audit::is_kept(arguments.audit, &arguments.data, is_encrypted) {
        return builder;
    }
    let on_failure = match arguments.audit_on_failure {
        AuditFailure::Block => OnFailure::Block,
        AuditFailure::Continue => OnFailure::Continue,
    };
    let copy = arguments.audit_copy.clone();
    builder.audit(AuditOptions { on_failure, copy, ..audit::options() })
}

/// Says what happens, in words or as a line of JSON.
#[derive(Clone, Copy)]
struct Teller(Format);

impl Teller {
    fn tell(self, words: &str, event: &serde_json::Value) {
        match self.0 {
            Format::Text => status(words),
            Format::Json => status(&event.to_string()),
        }
    }

    fn tell_made(self, db: &Database, data: &Path) {
        match self.0 {
            Format::Text => {
                for line in made::introduce(db, data) {
                    status(&line);
                }
            }
            Format::Json => {
                let provider = db.keys().map(|keys| keys.status().provider);
                let encrypted = provider.is_some();
                let made = json!({
                    "event": "made", "data": data.display().to_string(), "encrypted": encrypted, "provider": provider,
                });
                status(&made.to_string());
            }
        }
    }

    fn tell_all(self, told: Vec<(String, serde_json::Value)>) {
        for (words, event) in told {
            self.tell(&words, &event);
        }
    }
}

/// Where clients are answered.
struct Ready {
    resp: SocketAddr,
    tls: Option<SocketAddr>,
    tls_http: Option<SocketAddr>,
    http: Option<SocketAddr>,
    /// The address of HTTP was left to the default, and somebody else has it.
    http_in_use: bool,
}

impl Ready {
    fn of(server: &Server, no_http: bool) -> Self {
        let http = server.http_addr();
        Self {
            resp: server.local_addr(),
            tls: server.tls_addrs().first().copied(),
            tls_http: server.tls_http_addr(),
            http,
            http_in_use: http.is_none() && !no_http,
        }
    }

    fn tell(&self, teller: Teller) {
        let http = match self.http {
            Some(address) => format!("; http on {address}"),
            None if self.http_in_use => {
                format!("; no http, for {HTTP_DEFAULT} is in use: choose another address by --http")
            }
            None => String::new(),
        };
        let shown = |address: Option<SocketAddr>| address.map(|address| address.to_string());
        let (tls, tls_http) = (shown(self.tls), shown(self.tls_http));
        let words = |name: &str, address: &Option<String>| {
            address.as_ref().map(|address| format!("; {name} on {address}")).unwrap_or_default()
        };
        let (secured, pages) = (words("tls", &tls), words("https", &tls_http));
        teller.tell(
            &format!("ready on {}, stop with Ctrl-C{secured}{pages}{http}", self.resp),
            &json!({
                "event": "ready", "resp": self.resp.to_string(), "tls": tls, "https": tls_http,
                "http": shown(self.http),
            }),
        );
    }
}

/// Done when a signal asks to end. Who has read the line `ready` may send one; a second one ends the process at once.
/// Until then certificates are looked after.
async fn until_signal(ready: Ready, teller: Teller, certificates: Option<(TlsHandle, Served)>) {
    let interrupt = Interrupt::install();
    let mut signal = pin!(shutdown_signal());
    // The first poll installs the server's own handlers beside ours.
    let first = poll_fn(|context| Poll::Ready(signal.as_mut().poll(context))).await;
    let mut occasions = certificates.map(|certificates| (certificates, TlsOccasions::install()));
    ready.tell(teller);
    if first.is_pending() && !interrupt.came() {
        match &mut occasions {
            None => signal.await,
            Some(((handle, served), occasions)) => {
                while let Some(occasion) = unless(occasions.next(), signal.as_mut()).await {
                    teller.tell_all(served.attend(handle, occasion));
                }
            }
        }
    }
    teller.tell("stopping: finishing what clients have sent", &json!({ "event": "stopping" }));
}

/// What the first future gives, unless the second is done before.
async fn unless<T>(
    first: impl Future<Output = T>,
    mut stop: Pin<&mut impl Future<Output = ()>>,
) -> Option<T> {
    let mut first = pin!(first);
    poll_fn(|context| match stop.as_mut().poll(context) {
        Poll::Ready(()) => Poll::Ready(None),
        Poll::Pending => first.as_mut().poll(context).map(Some),
    })
    .await
}

/// Where a server listens.
struct Places {
    resp: Option<SocketAddr>,
    tls: Option<SocketAddr>,
    http: HttpAddress,
    tls_http: Option<SocketAddr>,
}

impl Places {
    fn choose(arguments: &ServeArguments) -> Result<Self, Failure> {
        let tls = &arguments.tls;
        if tls.no_plain && arguments.unix_socket.is_some() {
            return Err(Failure::usage(
                "--no-plain and --unix-socket exclude each other: nothing is encrypted there",
            ));
        }
        let asked = |address: &Option<String>| address.as_deref().map(resolve).transpose();
        Ok(Self {
            resp: if tls.no_plain { None } else { Some(resolve(&arguments.resp)?) },
            tls: asked(&tls.tls_address)?,
            http: http_address(arguments)?,
            tls_http: asked(&tls.tls_http)?,
        })
    }

    /// Refuses what others reach and nobody has accepted.
    fn check(&self, arguments: &ServeArguments, users: bool) -> Result<(), Failure> {
        let accepted = Accepted {
            no_encryption: arguments.allow_remote_without_encryption,
            no_users: arguments.tls.allow_remote_without_users,
        };
        let http = if let HttpAddress::At(address) = self.http { Some(address) } else { None };
        let plain = self.resp.into_iter().chain(http).map(|address| (address, false));
        let secured = self.tls.into_iter().chain(self.tls_http).map(|address| (address, true));
        let certificates = arguments.tls.clients() == Clients::Required;
        for (address, tls) in plain.chain(secured) {
            Exposure { address, tls, users, certificates }.check(accepted)?;
        }
        Ok(())
    }
}

/// Whether whoever comes has to show who he is: nobody can be a user without a password.
fn users_exist(db: &Database) -> Result<bool, Failure> {
    let rights = db.rights()?.current();
    Ok(!rights.users().any(|user| user.is_on() && user.needs_no_password()))
}

/// Lets the process open as many files as it may; `None` when there is no limit to that.
pub(crate) fn raise_open_files() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current }
}

/// As many clients as were asked for, or as there are files for beside those of the database: who comes then is refused
/// with a sentence, and not left waiting.
fn clients_that_fit(asked: u32, open_files: Option<u64>) -> usize {
    let files = open_files.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX);
    let of_the_database = LocalTables::kept_open(files) + FILES_BESIDE_TABLES;
    files.saturating_sub(of_the_database).max(1).min(usize::try_from(asked).unwrap_or(usize::MAX))
}

/// Where HTTP is answered. The default gives way to whoever has the port; an address that was asked for does not.
fn http_address(arguments: &ServeArguments) -> Result<HttpAddress, Failure> {
    match &arguments.http {
        _ if arguments.no_http => Ok(HttpAddress::Nowhere),
        Some(address) => resolve(address).map(HttpAddress::At),
        None => resolve(HTTP_DEFAULT).map(HttpAddress::IfFree),
    }
}

fn resolve(address: &str) -> Result<SocketAddr, Failure> {
    let advice =
        || Failure::usage(format!("{address:?} is no address of this machine; write it like 127.0.0.1:7379"));
    address.to_socket_addrs().ok().and_then(|mut addresses| addresses.next()).ok_or_else(advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_no_more_clients_than_files_for_them() {
        assert_eq!(clients_that_fit(10_000, None), 10_000);
        assert_eq!(clients_that_fit(10_000, Some(1 << 20)), 10_000);
        assert_eq!(clients_that_fit(10_000, Some(1_024)), 512);
        assert_eq!(clients_that_fit(10_000, Some(20)), 1);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for address in ["", "7379", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000"] {
            assert!(resolve(address).unwrap_err().message.contains("127.0.0.1:7379"), "{address}");
        }
    }
}
