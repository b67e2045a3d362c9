//! `serve`: opens the database, answers Redis clients until a signal comes, closes the database. One of the two places
//! where the parts of a PugDB are chosen.

use std::future::poll_fn;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use pugdb::{Database, LocalTables};
use pugdb_server::{HttpAddress, Server, ServerOptions, shutdown_signal};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use crate::arguments::ServeArguments;
use crate::interrupt::Interrupt;
use crate::outcome::{Exit, Failure};
use crate::output::{Format, status};
use crate::sizing::{MemoryLimit, SERVE_MEMORY_BYTES};
use crate::target::{HTTP_DEFAULT, STOP_FIRST, open_database};
use crate::text::human_bytes;

/// Log, tables being written, listeners and what else is open, beside the tables that are kept open.
const FILES_BESIDE_TABLES: usize = 256;

pub(crate) fn serve(arguments: &ServeArguments, format: Format) -> Result<Exit, Failure> {
    let address = resolve(&arguments.resp)?;
    let http = http_address(arguments)?;
    if !arguments.allow_remote_without_encryption {
        refuse_remote(address)?;
        if let HttpAddress::At(address) = http {
            refuse_remote(address)?;
        }
    }
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
    let builder = arguments.keys.apply(builder, &arguments.data)?;
    let db = open_database(builder, &arguments.data, STOP_FIRST)?;
    let options = ServerOptions {
        addresses: vec![address],
        unix_socket: arguments.unix_socket.clone(),
        http,
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
            "memory_bytes": memory.bytes, "memory_why": memory.why,
        }),
    );
    let ready = Ready::of(&server, arguments.no_http);
    server.run(until_signal(ready, teller));
    db.close()?;
    teller.tell("closed in good order", &json!({ "event": "closed" }));
    Ok(Exit::Done)
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
}

/// Where clients are answered.
struct Ready {
    resp: SocketAddr,
    http: Option<SocketAddr>,
    /// The address of HTTP was left to the default, and somebody else has it.
    http_in_use: bool,
}

impl Ready {
    fn of(server: &Server, no_http: bool) -> Self {
        let http = server.http_addr();
        Self { resp: server.local_addr(), http, http_in_use: http.is_none() && !no_http }
    }

    fn tell(&self, teller: Teller) {
        let http = match self.http {
            Some(address) => format!("; http on {address}"),
            None if self.http_in_use => {
                format!("; no http, for {HTTP_DEFAULT} is in use: choose another address by --http")
            }
            None => String::new(),
        };
        let (resp, http_address) = (self.resp.to_string(), self.http.map(|address| address.to_string()));
        teller.tell(
            &format!("ready on {resp}, stop with Ctrl-C{http}"),
            &json!({ "event": "ready", "resp": resp, "http": http_address }),
        );
    }
}

/// Done when a signal asks to end. Who has read the line `ready` may send one; a second one ends the process at once.
async fn until_signal(ready: Ready, teller: Teller) {
    let interrupt = Interrupt::install();
    let mut signal = pin!(shutdown_signal());
    // The first poll installs the server's own handlers beside ours.
    let first = poll_fn(|context| Poll::Ready(signal.as_mut().poll(context))).await;
    ready.tell(teller);
    if first.is_pending() && !interrupt.came() {
        signal.await;
    }
    teller.tell("stopping: finishing what clients have sent", &json!({ "event": "stopping" }));
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

fn refuse_remote(address: SocketAddr) -> Result<(), Failure> {
    if address.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{address} can be reached from other machines, and there is no TLS yet: whoever listens on the way reads along, \
         passwords too, and without users whoever reaches it may do everything; listen on 127.0.0.1, or accept that risk \
         with --allow-remote-without-encryption"
    )))
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
    fn only_addresses_of_this_machine_are_accepted() {
        for address in ["127.0.0.1:7379", "127.1.2.3:0", "[::1]:7379", "[::ffff:127.0.0.1]:1"] {
            refuse_remote(resolve(address).unwrap()).unwrap();
        }
        for address in ["0.0.0.0:7379", "[::]:7379", "192.168.1.1:7379", "[::ffff:10.0.0.1]:1", "8.8.8.8:1"] {
            let failure = refuse_remote(resolve(address).unwrap()).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            assert!(failure.message.contains("no TLS"), "{}", failure.message);
        }
        for address in ["", "7379", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000"] {
            assert!(resolve(address).unwrap_err().message.contains("127.0.0.1:7379"), "{address}");
        }
    }
}
