//! `CONFIG`: the settings that Redis clients ask for, as far as they have a meaning here.

use bytes::Bytes;
use pugdb::Durability;
use pugdb_wire::resp::Reply;
use pugdb_wire::resp::limits::BULK_BYTES_MAX;

use super::{Subcommand, run_subcommand, text};
use crate::failure::Failure;
use crate::glob;
use crate::limits::DATABASES;
use crate::session::Session;
use crate::shared::Shared;

const SUBCOMMANDS: &[Subcommand] = &[
    Subcommand { name: "get", arity: -3, run: get },
    Subcommand { name: "resetstat", arity: 2, run: resetstat },
    Subcommand { name: "rewrite", arity: 2, run: refuse },
    Subcommand { name: "set", arity: -4, run: refuse },
];

/// `CONFIG subcommand`
pub(super) fn config(session: &mut Session, arguments: &[Bytes]) -> Result<Reply, Failure> {
    run_subcommand("config", SUBCOMMANDS, session, arguments)
}

/// `CONFIG GET pattern [pattern ...]`
fn get(session: &mut Session, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let patterns: Vec<Vec<u8>> =
        arguments.iter().skip(2).map(|pattern| pattern.to_ascii_lowercase()).collect();
    let asked = |name: &str| patterns.iter().any(|pattern| glob::matches(pattern, name.as_bytes()));
    let settings = settings(&session.shared).into_iter().filter(|(name, _)| asked(name));
    Ok(Reply::Map(settings.map(|(name, value)| (text(name), text(value))).collect()))
}

fn resetstat(session: &mut Session, _: &[Bytes]) -> Result<Reply, Failure> {
    session.shared.stats.reset();
    Ok(Reply::OK)
}

fn refuse(_: &mut Session, _: &[Bytes]) -> Result<Reply, Failure> {
    Err(Failure::new("ERR settings cannot be changed while the server runs; start it with other ones"))
}

/// What Redis would say if it were set up as this server is.
fn settings(shared: &Shared) -> Vec<(&'static str, String)> {
    let hosts: Vec<String> = shared.addresses.iter().map(|address| address.ip().to_string()).collect();
    let fsync = if shared.db.durability() == Durability::Sync { "always" } else { "no" };
    vec![
        // The log is an append-only file, and there are no timed snapshots beside it.
        ("appendfsync", fsync.into()),
        ("appendonly", "yes".into()),
        ("bind", hosts.join(" ")),
        ("databases", DATABASES.to_string()),
        ("maxclients", shared.options.max_clients.to_string()),
        // Data lives on disk: what the database may hold in memory is no limit to what it may store.
        ("maxmemory", "0".into()),
        ("maxmemory-policy", "noeviction".into()),
        ("port", shared.addresses.first().map_or(0, std::net::SocketAddr::port).to_string()),
        ("proto-max-bulk-len", BULK_BYTES_MAX.to_string()),
        ("save", String::new()),
        ("tcp-keepalive", shared.options.keepalive.as_secs().to_string()),
        ("timeout", "0".into()),
    ]
}
