//! `serve`: opens the database, answers Redis clients until a signal comes, closes the database. One of the two places
//! where the parts of a PugDB are chosen.

use std::future::poll_fn;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::pin::pin;
use std::task::Poll;

use pugdb::{Database, Durability};
use pugdb_server::{Server, ServerOptions, shutdown_signal};
use serde_json::json;

use crate::arguments::{Level, ServeArguments};
use crate::interrupt::Interrupt;
use crate::outcome::{Exit, Failure};
use crate::output::{Format, status};
use crate::target::open_database;

pub(crate) fn serve(arguments: &ServeArguments, format: Format) -> Result<Exit, Failure> {
    let address = resolve(&arguments.resp)?;
    if !arguments.allow_remote_without_encryption {
        refuse_remote(address)?;
    }
    let durability = match arguments.durability {
        Level::Sync => Durability::Sync,
        Level::Os => Durability::Os,
    };
    let builder = Database::builder().memory_bytes(arguments.memory).durability(durability);
    let db = open_database(builder, &arguments.data, "stop it first")?;
    let options = ServerOptions { addresses: vec![address], ..ServerOptions::default() };
    let server = Server::bind(options, db.clone())?;
    let teller = Teller(format);
    let (data, recovery) = (arguments.data.display().to_string(), db.recovery_report().to_string());
    teller.tell(
        &format!("pugdb {}, data in {data}: {recovery}", env!("CARGO_PKG_VERSION")),
        &json!({ "event": "start", "version": env!("CARGO_PKG_VERSION"), "data": data, "recovery": recovery }),
    );
    let address = server.local_addr();
    server.run(until_signal(address, teller));
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

/// Done when a signal asks to end. Who has read the line `ready` may send one; a second one ends the process at once.
async fn until_signal(address: SocketAddr, teller: Teller) {
    let interrupt = Interrupt::install();
    let mut signal = pin!(shutdown_signal());
    // The first poll installs the server's own handlers beside ours.
    let first = poll_fn(|context| Poll::Ready(signal.as_mut().poll(context))).await;
    teller.tell(
        &format!("ready on {address}, stop with Ctrl-C"),
        &json!({ "event": "ready", "resp": address.to_string() }),
    );
    if first.is_pending() && !interrupt.came() {
        signal.await;
    }
    teller.tell("stopping: finishing what clients have sent", &json!({ "event": "stopping" }));
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
        "{address} can be reached from other machines, and there are no users and no TLS yet: whoever reaches it reads \
         and changes everything, and whoever listens on the way reads along; listen on 127.0.0.1, or accept that risk \
         with --allow-remote-without-encryption"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_this_machine_are_accepted() {
        for address in ["127.0.0.1:7379", "127.1.2.3:0", "[::1]:7379", "[::ffff:127.0.0.1]:1"] {
            refuse_remote(resolve(address).unwrap()).unwrap();
        }
        for address in ["0.0.0.0:7379", "[::]:7379", "192.168.1.1:7379", "[::ffff:10.0.0.1]:1", "8.8.8.8:1"] {
            let failure = refuse_remote(resolve(address).unwrap()).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            assert!(failure.message.contains("no users and no TLS"), "{}", failure.message);
        }
        for address in ["", "7379", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000"] {
            assert!(resolve(address).unwrap_err().message.contains("127.0.0.1:7379"), "{address}");
        }
    }
}
