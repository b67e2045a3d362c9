//! `CONFIG`: the settings that Redis clients ask for, as far as they have a meaning here.

use bytes::Bytes;
use pugdb::Durability;
use pugdb_wire::resp::Reply;
use pugdb_wire::resp::limits::BULK_BYTES_MAX;

use super::table::{Command, commands};
use super::text;
use crate::call::Call;
use crate::failure::Failure;
use crate::glob;
use crate::limits::DATABASES;
use crate::shared::Shared;

#[rustfmt::skip]
pub(super) const SUBCOMMANDS: &[Command] = commands! {
    "config|get" -3 [Admin Loading Dangerous] [] Server "2.0.0" Run(get) "pattern [pattern ...]" "Shows settings." "";
    "config|resetstat" 2 [Admin Loading Dangerous] [] Server "2.0.0" Run(resetstat) "" "Sets the counters of INFO to zero." "";
    "config|rewrite" 2 [Admin Loading Dangerous] [] Server "2.8.0" Run(refuse) "" "Writes settings to the configuration file." "There is none that the server would write: it is an error.";
    "config|set" -4 [Admin Loading Dangerous] [] Server "2.0.0" Run(refuse) "name value [name value ...]" "Changes settings." "";
};

/// `CONFIG GET pattern [pattern ...]`
fn get(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let patterns: Vec<Vec<u8>> =
        arguments.iter().skip(2).map(|pattern| pattern.to_ascii_lowercase()).collect();
    let asked = |name: &str| patterns.iter().any(|pattern| glob::matches(pattern, name.as_bytes()));
    let settings = settings(&call.shared).into_iter().filter(|(name, _)| asked(name));
    Ok(Reply::Map(settings.map(|(name, value)| (text(name), text(value))).collect()))
}

fn resetstat(call: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    call.shared.stats.reset();
    call.shared.command_stats.reset();
    Ok(Reply::OK)
}

fn refuse(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
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
