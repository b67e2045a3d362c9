//! The metrics of a server and its database, in the text formats of `OpenMetrics` and Prometheus. One registry for each
//! server, filled when it is asked for. Labels are names of commands and databases from fixed tables; no user's byte is
//! in any of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet, prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use pugdb::Partition;

use crate::health::{disk_free_bytes, readiness};
use crate::limits::DATABASES;
use crate::process;
use crate::shared::{KEYSPACES, Shared};
use crate::stats::{BUCKETS, CommandStats};

/// How metrics are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    OpenMetrics,
    Prometheus,
}

impl Format {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
        }
    }
}

pub(crate) struct Metrics {
    registry: Registry,
}

impl Metrics {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let mut registry = Registry::with_prefix("pugdb");
        registry.register_collector(Box::new(ServerCollector(shared)));
        Self { registry }
    }

    /// All metrics as they are now. It can count keys, and so take a while.
    pub(crate) fn encode(&self, format: Format) -> Result<String, fmt::Error> {
        let mut body = String::with_capacity(16 << 10);
        match format {
            Format::OpenMetrics => text::encode(&mut body, &self.registry)?,
            Format::Prometheus => prometheus_text::encode(&mut body, &self.registry)?,
        }
        Ok(body)
    }
}

/// Reads everything from where the server keeps it anyway.
struct ServerCollector(Arc<Shared>);

impl fmt::Debug for ServerCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerCollector")
    }
}

impl Collector for ServerCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        let shared = &self.0;
        server(shared, &mut page)?;
        connections(shared, &mut page)?;
        tls(shared, &mut page)?;
        commands(shared, &mut page)?;
        rights(shared, &mut page)?;
        database(shared, &mut page)?;
        process(&mut page)
    }
}

/// One label.
type Label = [(&'static str, &'static str); 1];

struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.0
            .encode_descriptor(name, help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&gauge_value(value))
    }

    fn bytes(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, Some(&Unit::Bytes), MetricType::Gauge)?;
        metric.encode_gauge(&gauge_value(value))
    }

    fn counter_of_bytes(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, Some(&Unit::Bytes), MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn counter_of_time(&mut self, name: &str, help: &str, value: Duration) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, u64>(&value.as_secs_f64(), None)
    }

    /// One metric for each label that has something to tell.
    fn family<S: EncodeLabelSet>(
        &mut self,
        (name, help, kind): (&str, &str, MetricType),
        labels: impl Iterator<Item = (S, u64)>,
    ) -> fmt::Result {
        self.family_of((name, help, kind), None, labels)
    }

    fn family_of_bytes<S: EncodeLabelSet>(
        &mut self,
        (name, help): (&str, &str),
        labels: impl Iterator<Item = (S, u64)>,
    ) -> fmt::Result {
        self.family_of((name, help, MetricType::Gauge), Some(&Unit::Bytes), labels)
    }

    fn family_of<S: EncodeLabelSet>(
        &mut self,
        (name, help, kind): (&str, &str, MetricType),
        unit: Option<&Unit>,
        labels: impl Iterator<Item = (S, u64)>,
    ) -> fmt::Result {
        let mut labels = labels.peekable();
        // A name without any value is not worth a line.
        if labels.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, unit, kind)?;
        for (label, value) in labels {
            let mut metric = family.encode_family(&label)?;
            match kind {
                MetricType::Counter => metric.encode_counter::<NoLabelSet, _, u64>(&value, None)?,
                _ => metric.encode_gauge(&gauge_value(value))?,
            }
        }
        Ok(())
    }
}

/// Gauges are signed; nothing here counts to 2^63.
fn gauge_value(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn server(shared: &Shared, page: &mut Page<'_>) -> fmt::Result {
    let build = [("version", env!("CARGO_PKG_VERSION"))];
    let mut info = page.0.encode_descriptor("build", "The program", None, MetricType::Info)?;
    info.encode_info(&build)?;
    let uptime = shared.started_at.elapsed().as_secs();
    let mut metric = page.0.encode_descriptor(
        "uptime",
        "Time since the server has started",
        Some(&Unit::Seconds),
        MetricType::Gauge,
    )?;
    metric.encode_gauge(&gauge_value(uptime))?;
    page.gauge("ready", "Whether /readyz says that it is ready", u64::from(readiness(shared).is_ok()))
}

fn connections(shared: &Shared, page: &mut Page<'_>) -> fmt::Result {
    let stats = &shared.stats;
    let clients_max = shared.settings.clients_max.load(std::sync::atomic::Ordering::Relaxed);
    page.gauge("clients", "Clients that are connected", shared.clients.count() as u64)?;
    page.gauge("clients_limit", "Clients that may be connected", clients_max as u64)?;
    page.counter("connections", "Connections that were served", stats.connections.get())?;
    page.counter("connections_refused", "Connections refused for the limit", stats.rejected.get())?;
    page.counter("connections_idle_closed", "Connections closed for their silence", stats.idle_closed.get())?;
    page.counter("connections_stalled", "Connections closed for not reading", stats.stalled.get())?;
    page.counter(
        "connections_out_of_buffers",
        "Connections closed because the buffers of all took too much",
        stats.out_of_buffers.get(),
    )?;
    page.counter(
        "protocol_errors",
        "Connections closed for bytes that are not RESP",
        stats.protocol_errors.get(),
    )?;
    page.counter_of_bytes("received", "Bytes that clients have sent", stats.bytes_in.get())?;
    page.counter_of_bytes("sent", "Bytes that clients were sent", stats.bytes_out.get())?;
    page.bytes("buffers", "Commands and replies under way", shared.budget.used() as u64)?;
    page.bytes("buffers_limit", "What buffers may take", shared.options.buffer_bytes as u64)
}

fn tls(shared: &Shared, page: &mut Page<'_>) -> fmt::Result {
    let Some(tls) = &shared.tls else { return Ok(()) };
    let stats = &shared.stats;
    let mut expiry = page.0.encode_descriptor(
        "tls_certificate_expiry_timestamp",
        "When the server's certificate expires, in seconds since 1970",
        Some(&Unit::Seconds),
        MetricType::Gauge,
    )?;
    expiry.encode_gauge(&gauge_value(tls.certificate().not_after.0 / 1000))?;
    page.gauge(
        "tls_handshakes_under_way",
        "TLS handshakes that are under way",
        shared.handshakes.count() as u64,
    )?;
    page.counter("tls_handshakes", "TLS handshakes that came to a connection", stats.tls_handshakes.get())?;
    page.counter("tls_handshake_failures", "TLS handshakes that came to nothing", stats.tls_failures.get())?;
    page.counter("tls_handshakes_evicted", "TLS handshakes that ended for others", stats.tls_evicted.get())?;
    page.counter("tls_reloads", "Times that the certificate was read again", tls.reloads.get())?;
    page.counter("tls_reload_failures", "Times that it could not be", tls.reload_failures.get())
}

fn commands(shared: &Shared, page: &mut Page<'_>) -> fmt::Result {
    let called = || shared.command_stats.all().filter(|(_, stats)| stats.calls.get() > 0);
    let label = |name: &'static str| -> Label { [("command", name)] };
    let failed = called().filter(|(_, stats)| stats.failed.get() > 0);
    page.family(
        ("command_failures", "Calls of a command that ended in an error", MetricType::Counter),
        failed.map(|(name, stats)| (label(name), stats.failed.get())),
    )?;
    let rejected = shared.command_stats.all().filter(|(_, stats)| stats.rejected.get() > 0);
    page.family(
        ("command_rejections", "Calls of a command that could not begin", MetricType::Counter),
        rejected.map(|(name, stats)| (label(name), stats.rejected.get())),
    )?;
    if called().next().is_some() {
        let (name, help) =
            ("command_duration", "Time that calls of a command took, without the wait for the disk");
        let mut family = page.0.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (name, stats) in called() {
            histogram(stats, family.encode_family(&label(name))?)?;
        }
    }
    let errors = shared.errors.all();
    page.family(
        ("errors", "Replies that were errors, by their first word", MetricType::Counter),
        errors.iter().map(|(word, count)| ([("error", word.as_str())], *count)),
    )?;
    page.counter("keyspace_hits", "Keys that a read has found", shared.stats.hits.get())?;
    page.counter("keyspace_misses", "Keys that a read has not found", shared.stats.misses.get())?;
    page.counter("panics", "Commands that ended in a panic: bugs", shared.stats.panics.get())?;
    page.gauge("slowlog_entries", "Slow commands that are kept", shared.slowlog.len() as u64)
}

/// Logins and denials, without names.
fn rights(shared: &Shared, page: &mut Page<'_>) -> fmt::Result {
    let stats = &shared.stats;
    page.counter("logins", "Logins that went well", stats.logins.get())?;
    page.counter("login_failures", "Logins with a wrong name or password", stats.login_failures.get())?;
    page.counter(
        "logins_held_off",
        "Logins that were not tried because too many from there had failed",
        stats.logins_held_off.get(),
    )?;
    let denied = [
        ("command", &stats.denied_commands),
        ("keyspace", &stats.denied_keyspaces),
        ("key", &stats.denied_keys),
        ("channel", &stats.denied_channels),
    ];
    page.family(
        ("denials", "Commands refused for want of a right, by what was missing", MetricType::Counter),
        denied.into_iter().map(|(kind, counter)| -> (Label, u64) { ([("missing", kind)], counter.get()) }),
    )?;
    page.counter("rights_changes", "Changes of users and roles", stats.rights_changes.get())
}

fn histogram(stats: &CommandStats, mut metric: MetricEncoder<'_>) -> fmt::Result {
    let sum = Duration::from_nanos(stats.nanoseconds.get()).as_secs_f64();
    let mut buckets = [(f64::INFINITY, 0); BUCKETS];
    for (bucket, (microseconds, count)) in buckets.iter_mut().zip(stats.histogram()) {
        let end = microseconds.map_or(f64::INFINITY, |end| Duration::from_micros(end).as_secs_f64());
        *bucket = (end, count);
    }
    // Counted from the buckets, which move while they are read: both must agree.
    let count = buckets.iter().map(|(_, count)| count).sum();
    metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
}

fn database(shared: &Shared, page: &mut Page<'_>) -> fmt::Result {
    page.gauge(
        "database_failed",
        "Whether the database refuses writes",
        u64::from(shared.db.failure().is_some()),
    )?;
    page.counter(
        "sync_failures",
        "Failed syncs that connections waited for",
        shared.stats.sync_failures.get(),
    )?;
    page.bytes("memory_limit", "What the database may hold in memory", shared.db.memory_bytes() as u64)?;
    if let Some(free) = disk_free_bytes(shared) {
        page.bytes("disk_free", "Room that is left where the data lies", free)?;
    }
    // A database that is closed has nothing to tell any more.
    let Ok(stats) = shared.db.stats() else { return Ok(()) };
    page.gauge("keyspaces", "Keyspaces", stats.keyspaces as u64)?;
    page.gauge("snapshots", "Snapshots that are held", stats.snapshots as u64)?;
    page.gauge("tables", "Sorted files", stats.tables as u64)?;
    page.bytes("tables", "Size of the sorted files", stats.table_bytes)?;
    page.gauge("value_files", "Files of values beside the sorted files", stats.value_files as u64)?;
    page.bytes("values", "Size of the files of values", stats.value_bytes)?;
    page.bytes("values_live", "What sorted files point to of them", stats.value_live_bytes)?;
    page.gauge("runs", "Sorted runs that a read may have to look at", stats.runs as u64)?;
    page.gauge("tables_quarantined", "Sorted files with damage", stats.quarantined as u64)?;
    page.bytes("memtables", "Memory of the newest entries", stats.memtable_bytes as u64)?;
    page.bytes("cache", "Memory of blocks that were read", stats.cache_bytes as u64)?;
    page.bytes("table_memory", "Memory of filters and indexes", stats.table_memory_bytes as u64)?;
    page.gauge(
        "disk_full",
        "Whether the reserve is spent, and only deletes are let in",
        u64::from(stats.is_disk_full),
    )?;
    page.counter("cache_hits", "Blocks that readers found in memory", stats.cache_hits)?;
    page.counter("cache_misses", "Blocks that readers had to read", stats.cache_misses)?;
    page.bytes("log", "Size of the log", stats.log_bytes)?;
    page.gauge("generation", "How far the database has come: it never falls", shared.db.generation())?;
    page.counter("flushes", "Memtables that were written to files", stats.flushes)?;
    page.counter_of_bytes("flushed", "Bytes of sorted files that flushes wrote", stats.flushed_bytes)?;
    page.counter("compactions", "Merges of sorted files", stats.compactions)?;
    page.counter_of_bytes("compacted", "Bytes of sorted files that merges wrote", stats.compacted_bytes)?;
    let held = Duration::from_micros(stats.compaction_held_us);
    page.counter_of_time("compaction_held", "How long the rate limit held merges back", held)?;
    page.counter(
        "scrubbed_tables",
        "Sorted files that were read again to find damage",
        stats.scrubbed_tables,
    )?;
    page.counter_of_bytes("scrubbed", "Bytes of them, and of their values", stats.scrubbed_bytes)?;
    page.counter("observer_panics", "Panics of observers, which went no further", stats.observer_panics)?;
    page.counter("scrub_failures", "Sorted files that could not be read again yet", stats.scrub_failures)?;
    page.counter("write_stalls", "Waits of writers for flushes and merges", stats.stalls)?;
    page.counter_of_time("write_stall", "How long writers waited", Duration::from_micros(stats.stall_us))?;
    let counts = || {
        let counts = (0..DATABASES).filter_map(|database| {
            let count = shared.estimate_keys(database).ok()?;
            (count.keys > 0).then_some((KEYSPACES[database], count))
        });
        counts.collect::<Vec<_>>()
    };
    let counts = counts();
    page.family(
        ("keys_estimate", "Keys of a database; an estimate", MetricType::Gauge),
        counts.iter().map(|(name, count)| ([("database", *name)], count.keys)),
    )?;
    page.family(
        ("expiring_keys_estimate", "Keys of a database that expire; an estimate", MetricType::Gauge),
        counts.iter().map(|(name, count)| ([("database", *name)], count.expiring)),
    )?;
    partitions(shared, page)
}

/// Of databases that are partitioned: one partition that is hot, or much larger than the others, is to be split. No other keyspace is
/// told of, for its name is a user's.
fn partitions(shared: &Shared, page: &mut Page<'_>) -> fmt::Result {
    let partitioned = KEYSPACES.iter().filter_map(|&name| {
        let keyspace = shared.db.existing_keyspace(name).ok()??;
        // An error for those that have none.
        Some((name, keyspace.partitions().ok()?))
    });
    let partitioned: Vec<_> = partitioned.collect();
    let each = |of: fn(&[Partition]) -> u64| {
        partitioned
            .iter()
            .map(move |(name, partitions)| -> (Label, u64) { ([("database", *name)], of(partitions)) })
    };
    page.family(
        ("partitions", "Partitions of a database", MetricType::Gauge),
        each(|partitions| partitions.len() as u64),
    )?;
    page.family(
        ("partitions_hot", "Those with more than twice their share of the operations", MetricType::Gauge),
        each(|partitions| partitions.iter().filter(|one| one.is_hot).count() as u64),
    )?;
    page.family_of_bytes(
        ("partition_largest", "Tables and memtables of the largest partition"),
        each(|partitions| partitions.iter().map(partition_bytes).max().unwrap_or(0)),
    )?;
    page.family_of_bytes(
        ("partition_smallest", "Tables and memtables of the smallest partition"),
        each(|partitions| partitions.iter().map(partition_bytes).min().unwrap_or(0)),
    )
}

fn partition_bytes(partition: &Partition) -> u64 {
    partition.table_bytes + partition.memtable_bytes as u64
}

fn process(page: &mut Page<'_>) -> fmt::Result {
    if let Some(resident) = process::resident_bytes() {
        page.bytes("resident_memory", "Memory that the process really has", resident)?;
    }
    if let Some((user, system)) = process::processor_time() {
        let help = "Time on a processor, in the program and in the system for it";
        let mut metric =
            page.0.encode_descriptor("processor", help, Some(&Unit::Seconds), MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, u64>(&(user + system).as_secs_f64(), None)?;
    }
    Ok(())
}
