//! `INFO`: the server in numbers, in the sections and names that Redis's clients and exporters know.

use std::fmt::{Display, Write};

use bytes::Bytes;
use pugdb::Durability;
use pugdb_wire::resp::Reply;

use super::connection::REDIS_VERSION;
use super::verbatim;
use crate::arguments::is;
use crate::call::Call;
use crate::failure::Failure;
use crate::limits::DATABASES;
use crate::shared::Shared;

type Section = fn(&Shared, &mut Text) -> Result<(), Failure>;

const SECTIONS: &[(&str, Section)] = &[
    ("Server", server),
    ("Clients", clients),
    ("Memory", memory),
    ("Persistence", persistence),
    ("Stats", stats),
    ("Replication", replication),
    ("Keyspace", keyspace),
];

/// `INFO [section ...]`
pub(super) fn info(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let asked = arguments.get(1..).unwrap_or_default();
    let everything = asked.is_empty()
        || asked.iter().any(|word| ["default", "all", "everything"].iter().any(|all| is(word, all)));
    let mut text = Text::default();
    for (name, section) in SECTIONS {
        if everything || asked.iter().any(|word| is(word, name)) {
            text.section(name);
            section(&call.shared, &mut text)?;
        }
    }
    Ok(verbatim(text.0))
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn section(&mut self, name: &str) {
        if !self.0.is_empty() {
            self.0.push_str("\r\n");
        }
        // Writing to a string does not fail.
        let _ = write!(self.0, "# {name}\r\n");
    }

    fn line(&mut self, name: &str, value: impl Display) {
        let _ = write!(self.0, "{name}:{value}\r\n");
    }
}

fn server(shared: &Shared, text: &mut Text) -> Result<(), Failure> {
    let uptime = shared.started_at.elapsed().as_secs();
    text.line("redis_version", REDIS_VERSION);
    text.line("pugdb_version", env!("CARGO_PKG_VERSION"));
    text.line("redis_mode", "standalone");
    text.line("os", std::env::consts::OS);
    text.line("arch_bits", usize::BITS);
    text.line("process_id", std::process::id());
    text.line("run_id", &shared.run_id);
    text.line("tcp_port", shared.addresses.first().map_or(0, std::net::SocketAddr::port));
    text.line("server_time_usec", shared.db.now().0.saturating_mul(1000));
    text.line("uptime_in_seconds", uptime);
    text.line("uptime_in_days", uptime / 86_400);
    Ok(())
}

fn clients(shared: &Shared, text: &mut Text) -> Result<(), Failure> {
    text.line("connected_clients", shared.clients.count());
    text.line("maxclients", shared.options.max_clients);
    text.line("blocked_clients", 0);
    Ok(())
}

fn memory(shared: &Shared, text: &mut Text) -> Result<(), Failure> {
    let stats = shared.db.stats()?;
    let buffers = shared.budget.used();
    text.line("used_memory", stats.memtable_bytes + stats.cache_bytes + buffers);
    text.line("maxmemory", 0);
    text.line("maxmemory_policy", "noeviction");
    text.line("pugdb_memory_bytes_max", shared.db.memory_bytes());
    text.line("pugdb_memtable_bytes", stats.memtable_bytes);
    text.line("pugdb_cache_bytes", stats.cache_bytes);
    text.line("pugdb_buffer_bytes", buffers);
    text.line("pugdb_buffer_bytes_max", shared.options.buffer_bytes);
    Ok(())
}

fn persistence(shared: &Shared, text: &mut Text) -> Result<(), Failure> {
    let stats = shared.db.stats()?;
    text.line("loading", 0);
    text.line("aof_enabled", 1);
    text.line("aof_last_write_status", if shared.db.failure().is_some() { "err" } else { "ok" });
    text.line("pugdb_durability", if shared.db.durability() == Durability::Sync { "sync" } else { "os" });
    if let Some(failure) = shared.db.failure() {
        text.line("pugdb_failure", failure.to_string().replace(['\r', '\n'], " "));
    }
    text.line("pugdb_log_bytes", stats.log_bytes);
    text.line("pugdb_tables", stats.tables);
    text.line("pugdb_table_bytes", stats.table_bytes);
    text.line("pugdb_quarantined_tables", stats.quarantined);
    text.line("pugdb_flushes", stats.flushes);
    text.line("pugdb_compactions", stats.compactions);
    Ok(())
}

fn stats(shared: &Shared, text: &mut Text) -> Result<(), Failure> {
    let stats = &shared.stats;
    text.line("total_connections_received", stats.connections.get());
    text.line("total_commands_processed", stats.commands.get());
    text.line("total_net_input_bytes", stats.bytes_in.get());
    text.line("total_net_output_bytes", stats.bytes_out.get());
    text.line("rejected_connections", stats.rejected.get());
    text.line("keyspace_hits", stats.hits.get());
    text.line("keyspace_misses", stats.misses.get());
    text.line("total_error_replies", stats.errors.get());
    text.line("pugdb_protocol_errors", stats.protocol_errors.get());
    text.line("pugdb_connections_out_of_buffers", stats.out_of_buffers.get());
    text.line("pugdb_panics", stats.panics.get());
    Ok(())
}

fn replication(_: &Shared, text: &mut Text) -> Result<(), Failure> {
    text.line("role", "master");
    text.line("connected_slaves", 0);
    Ok(())
}

fn keyspace(shared: &Shared, text: &mut Text) -> Result<(), Failure> {
    for database in 0..DATABASES {
        let count = shared.recent_key_count(database)?;
        if count.keys > 0 {
            let line = format_args!("keys={},expires={},avg_ttl=0", count.keys, count.expires);
            text.line(&format!("db{database}"), line);
        }
    }
    Ok(())
}
