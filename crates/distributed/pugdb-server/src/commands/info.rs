//! `INFO`: the server in numbers, in the sections and names that Redis's clients and exporters know.

use std::fmt::{Display, Write};
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use pugdb::{KeyCounts, Latencies};
use pugdb_wire::resp::Reply;

use super::connection::REDIS_VERSION;
use super::verbatim;
use crate::arguments::is;
use crate::call::Call;
use crate::failure::Failure;
use crate::limits::DATABASES;
use crate::process;
use crate::shared::Shared;

/// A section, and the words beside its name that ask for it. Without any word it is `default`.
struct Section {
    name: &'static str,
    groups: &'static [&'static str],
    write: fn(&Shared, &mut Text) -> Result<(), Failure>,
}

const ALWAYS: &[&str] = &["default", "all", "everything"];

#[rustfmt::skip]
const SECTIONS: &[Section] = &[
    Section { name: "Server", groups: ALWAYS, write: server },
    Section { name: "Clients", groups: ALWAYS, write: clients },
    Section { name: "Memory", groups: ALWAYS, write: memory },
    Section { name: "Persistence", groups: ALWAYS, write: persistence },
    Section { name: "Stats", groups: ALWAYS, write: stats },
    Section { name: "Replication", groups: ALWAYS, write: replication },
    Section { name: "CPU", groups: ALWAYS, write: processor },
    Section { name: "Modules", groups: &["default", "everything"], write: modules },
    Section { name: "Commandstats", groups: &["all", "everything"], write: commandstats },
    Section { name: "Errorstats", groups: ALWAYS, write: errorstats },
    Section { name: "Latencystats", groups: &["all", "everything"], write: latencystats },
    Section { name: "Cluster", groups: ALWAYS, write: cluster },
    Section { name: "Keyspace", groups: ALWAYS, write: keyspace },
];

/// `INFO [section ...]`
pub(super) fn info(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let asked = arguments.get(1..).unwrap_or_default();
    let is_asked = |section: &&Section| {
        let words = || section.groups.iter().copied().chain([section.name]);
        (asked.is_empty() && section.groups.contains(&"default"))
            || asked.iter().any(|word| words().any(|known| is(word, known)))
    };
    let mut text = Text::default();
    for section in SECTIONS.iter().filter(is_asked) {
        text.section(section.name);
        (section.write)(&call.shared, &mut text)?;
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

    fn line(&mut self, name: impl Display, value: impl Display) {
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
    text.line("io_threads_active", u8::from(shared.gate.threads() > 1));
    for (number, address) in shared.addresses.iter().enumerate() {
        let listener = format_args!("name=tcp,bind={},port={}", address.ip(), address.port());
        text.line(format_args!("listener{number}"), listener);
    }
    for (number, address) in shared.tls_addresses.iter().enumerate() {
        let listener = format_args!("name=tls,bind={},port={}", address.ip(), address.port());
        text.line(format_args!("listener{}", shared.addresses.len() + number), listener);
    }
    if let Some(tls) = &shared.tls {
        let certificate = tls.certificate();
        text.line("tls_certificate_expires_at", certificate.not_after.0 / 1000);
        text.line("tls_certificate_fingerprint", certificate.fingerprint);
    }
    if let Some(path) = &shared.options.unix_socket {
        let number = shared.addresses.len() + shared.tls_addresses.len();
        text.line(format_args!("listener{number}"), format_args!("name=unix,bind={}", path.display()));
    }
    Ok(())
}

fn clients(shared: &Shared, text: &mut Text) -> Result<(), Failure> {
    text.line("connected_clients", shared.clients.count());
    text.line("cluster_connections", 0);
    text.line("maxclients", shared.settings.clients_max.load(Ordering::Relaxed));
    text.line("blocked_clients", 0);
    text.line("tracking_clients", 0);
    Ok(())
}

fn memory(shared: &Shared, text: &mut Text) -> Result<(), Failure> {
    let stats = shared.db.stats()?;
    let buffers = shared.budget.used();
    let used = stats.memtable_bytes + stats.cache_bytes + stats.table_memory_bytes + buffers;
    text.line("used_memory", used);
    text.line("used_memory_human", human(used as u64));
    if let Some(resident) = process::resident_bytes() {
        text.line("used_memory_rss", resident);
        text.line("used_memory_rss_human", human(resident));
    }
    if let Some(machine) = process::machine_bytes() {
        text.line("total_system_memory", machine);
        text.line("total_system_memory_human", human(machine));
    }
    text.line("maxmemory", 0);
    text.line("maxmemory_human", "0B");
    text.line("maxmemory_policy", "noeviction");
    text.line("mem_allocator", "system");
    text.line("pugdb_memory_bytes_max", shared.db.memory_bytes());
    text.line("pugdb_memtable_bytes", stats.memtable_bytes);
    text.line("pugdb_cache_bytes", stats.cache_bytes);
    text.line("pugdb_table_memory_bytes", stats.table_memory_bytes);
    text.line("pugdb_cache_hits", stats.cache_hits);
    text.line("pugdb_cache_misses", stats.cache_misses);
    text.line("pugdb_buffer_bytes", buffers);
    text.line("pugdb_buffer_bytes_max", shared.options.buffer_bytes);
    Ok(())
}

/// Bytes as people read them: `1.50M`.
fn human(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
    let Some((unit, name)) = UNITS.into_iter().find(|(unit, _)| bytes >= *unit) else {
        return format!("{bytes}B");
    };
    // In hundredths, rounded down: a whole number is exact at any size.
    let hundredths = u128::from(bytes) * 100 / u128::from(unit);
    format!("{}.{:02}{name}", hundredths / 100, hundredths % 100)
}

fn persistence(shared: &Shared, text: &mut Text) -> Result<(), Failure> {
    let stats = shared.db.stats()?;
    let ok_or_err = |failed: bool| if failed { "err" } else { "ok" };
    text.line("loading", 0);
    text.line("rdb_bgsave_in_progress", u8::from(shared.saves.is_running()));
    text.line("rdb_last_save_time", shared.saves.last_s());
    text.line("rdb_last_bgsave_status", ok_or_err(shared.saves.has_failed()));
    text.line("aof_enabled", 1);
    text.line("aof_rewrite_in_progress", 0);
    text.line("aof_last_bgrewrite_status", "ok");
    text.line("aof_last_write_status", ok_or_err(shared.db.failure().is_some()));
    text.line("aof_current_size", stats.log_bytes);
    text.line("pugdb_durability", shared.db.durability());
    if let Some(failure) = shared.db.failure() {
        text.line("pugdb_failure", failure.to_string().replace(['\r', '\n'], " "));
    }
    text.line("pugdb_log_bytes", stats.log_bytes);
    text.line("pugdb_generation", shared.db.generation());
    text.line("pugdb_tables", stats.tables);
    text.line("pugdb_table_bytes", stats.table_bytes);
    text.line("pugdb_value_files", stats.value_files);
    text.line("pugdb_value_bytes", stats.value_bytes);
    text.line("pugdb_value_live_bytes", stats.value_live_bytes);
    text.line("pugdb_quarantined_tables", stats.quarantined);
    text.line("pugdb_flushes", stats.flushes);
    text.line("pugdb_flushed_bytes", stats.flushed_bytes);
    text.line("pugdb_compactions", stats.compactions);
    text.line("pugdb_compacted_bytes", stats.compacted_bytes);
    text.line("pugdb_compaction_parts_beside", stats.compaction_parts_beside);
    text.line("pugdb_compaction_held_us", stats.compaction_held_us);
    text.line("pugdb_scrubbed_tables", stats.scrubbed_tables);
    text.line("pugdb_scrubbed_bytes", stats.scrubbed_bytes);
    text.line("pugdb_observer_panics", stats.observer_panics);
    text.line("pugdb_disk_full", u8::from(stats.is_disk_full));
    text.line("pugdb_scrub_failures", stats.scrub_failures);
    text.line("pugdb_scrub_pass_at_ms", stats.scrub_pass_at.map_or(0, |at| at.0));
    text.line("pugdb_write_amplification", format_args!("{:.2}", stats.write_amplification()));
    text.line("pugdb_write_stalls", stats.stalls);
    text.line("pugdb_write_stall_us", stats.stall_us);
    Ok(())
}

fn stats(shared: &Shared, text: &mut Text) -> Result<(), Failure> {
    let stats = &shared.stats;
    text.line("total_connections_received", stats.connections.get());
    text.line("total_commands_processed", stats.commands.get());
    text.line("instantaneous_ops_per_sec", shared.operations_per_second.load(Ordering::Relaxed));
    text.line("total_net_input_bytes", stats.bytes_in.get());
    text.line("total_net_output_bytes", stats.bytes_out.get());
    text.line("rejected_connections", stats.rejected.get());
    text.line("keyspace_hits", stats.hits.get());
    text.line("keyspace_misses", stats.misses.get());
    text.line("evicted_keys", 0);
    text.line("pubsub_channels", 0);
    text.line("pubsub_patterns", 0);
    text.line("total_error_replies", stats.errors.get());
    text.line("pugdb_protocol_errors", stats.protocol_errors.get());
    text.line("pugdb_connections_out_of_buffers", stats.out_of_buffers.get());
    text.line("pugdb_connections_stalled", stats.stalled.get());
    text.line("pugdb_connections_idle_closed", stats.idle_closed.get());
    text.line("pugdb_sync_failures", stats.sync_failures.get());
    text.line("pugdb_panics", stats.panics.get());
    if let Some(tls) = &shared.tls {
        text.line("pugdb_tls_handshakes", stats.tls_handshakes.get());
        text.line("pugdb_tls_handshake_failures", stats.tls_failures.get());
        text.line("pugdb_tls_reloads", tls.reloads.get());
        text.line("pugdb_tls_reload_failures", tls.reload_failures.get());
    }
    Ok(())
}

fn replication(_: &Shared, text: &mut Text) -> Result<(), Failure> {
    text.line("role", "master");
    text.line("connected_slaves", 0);
    Ok(())
}

fn processor(_: &Shared, text: &mut Text) -> Result<(), Failure> {
    if let Some((user, system)) = process::processor_time() {
        let seconds = |time: Duration| format!("{}.{:06}", time.as_secs(), time.subsec_micros());
        text.line("used_cpu_sys", seconds(system));
        text.line("used_cpu_user", seconds(user));
    }
    Ok(())
}

/// There are none.
fn modules(_: &Shared, _: &mut Text) -> Result<(), Failure> {
    Ok(())
}

fn commandstats(shared: &Shared, text: &mut Text) -> Result<(), Failure> {
    for (name, stats) in shared.command_stats.all() {
        let (calls, rejected) = (stats.calls.get(), stats.rejected.get());
        if calls + rejected == 0 {
            continue;
        }
        let nanoseconds = stats.nanoseconds.get();
        // In hundredths of a microsecond.
        let each = nanoseconds.checked_div(calls).unwrap_or(0) / 10;
        let line = format_args!(
            "calls={calls},usec={},usec_per_call={}.{:02},rejected_calls={rejected},failed_calls={}",
            nanoseconds / 1000,
            each / 100,
            each % 100,
            stats.failed.get()
        );
        text.line(format_args!("cmdstat_{name}"), line);
    }
    Ok(())
}

fn errorstats(shared: &Shared, text: &mut Text) -> Result<(), Failure> {
    for (word, count) in shared.errors.all() {
        text.line(format_args!("errorstat_{word}"), format_args!("count={count}"));
    }
    Ok(())
}

fn latencystats(shared: &Shared, text: &mut Text) -> Result<(), Failure> {
    for (name, stats) in shared.command_stats.all().filter(|(_, stats)| stats.calls.get() > 0) {
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| stats.percentile(share));
        let line = format_args!("p50={p50}.000,p99={p99}.000,p99.9={p999}.000");
        text.line(format_args!("latency_percentiles_usec_{name}"), line);
    }
    // Of the engine, without the server around it.
    let Latencies { get, commit } = shared.db.latencies();
    for (name, latency) in [("get", get), ("commit", commit)] {
        let [p50, p99, p999] = [latency.p50, latency.p99, latency.p999].map(|took| took.as_secs_f64() * 1e6);
        let line = format_args!("p50={p50:.3},p99={p99:.3},p99.9={p999:.3}");
        text.line(format_args!("pugdb_latency_percentiles_usec_{name}"), line);
    }
    Ok(())
}

fn cluster(_: &Shared, text: &mut Text) -> Result<(), Failure> {
    text.line("cluster_enabled", 0);
    Ok(())
}

fn keyspace(shared: &Shared, text: &mut Text) -> Result<(), Failure> {
    for database in 0..DATABASES {
        let KeyCounts { keys, expiring } = shared.estimate_keys(database)?;
        if keys > 0 {
            let line = format_args!("keys={keys},expires={expiring},avg_ttl=0,estimated=1");
            text.line(format_args!("db{database}"), line);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_readable() {
        let cases = [(0, "0B"), (1023, "1023B"), (1024, "1.00K"), (1_572_864, "1.50M"), (1 << 30, "1.00G")];
        for (bytes, text) in cases {
            assert_eq!(human(bytes), text);
        }
        assert_eq!(human(u64::MAX), "16777215.99T");
    }
}
