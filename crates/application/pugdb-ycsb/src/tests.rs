//! Runs over PugDB, and over stores that lie.

use pugdb::{Database, EngineKind, ErrorKind, KeyspaceOptions, Result};

use crate::{
    Bench, Capabilities, Client, Distribution, PugdbStore, Report, Settings, Store, Workload, overhead,
};

fn small() -> Settings {
    Settings { records: 500, operations: 1_000, ..Settings::default() }
}

fn btree() -> PugdbStore {
    let db = Database::in_memory().unwrap();
    let keyspace = db.keyspace("ycsb").unwrap();
    PugdbStore::new(db, keyspace, true)
}

fn run_all(store: &dyn Store, settings: Settings) -> Vec<Report> {
    let mut bench = Bench::new(store, settings).unwrap();
    Workload::ALL.map(|workload| bench.run(workload).unwrap()).to_vec()
}

#[test]
fn every_workload_runs_on_every_engine_and_checks_what_it_reads() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::builder().memory_bytes(4 << 20).open(dir.path().join("data")).unwrap();
    for (name, engine) in [("lsm", EngineKind::Lsm), ("btree", EngineKind::Btree)] {
        let keyspace =
            db.keyspace_with(name, KeyspaceOptions { engine: Some(engine), ..Default::default() }).unwrap();
        let keyspace = keyspace.durability(pugdb::Durability::Os);
        for report in run_all(&PugdbStore::new(db.clone(), keyspace, true).load_batch(64), small()) {
            let name = report.workload.name();
            assert_eq!(report.operations, if name == "load" { 500 } else { 1_000 }, "{name}");
            assert_eq!(report.misses, if name == "M" { 1_000 } else { 0 }, "{name}");
            let checked = match name {
                "load" | "W" | "M" => 0..=0,
                "A" => 420..=580,
                "B" | "D" => 920..=980,
                "C" | "F" => 1_000..=1_000,
                _ => 40_000..=55_000,
            };
            assert!(checked.contains(&report.checked), "{name}: {}", report.checked);
            assert!(report.ops_per_second > 0.0 && report.cpu_us_per_op > 0.0, "{name}");
            assert!(report.p50_us <= report.p99_us && report.p99_us <= report.p999_us, "{name}");
            assert!(report.p999_us <= report.max_us, "{name}");
        }
    }
}

#[test]
fn one_seed_reads_the_same_and_another_does_not() {
    let checked = |seed| {
        let reports = run_all(&btree(), Settings { seed, ..small() });
        reports.into_iter().map(|report| report.checked).collect::<Vec<_>>()
    };
    assert_eq!(checked(1), checked(1));
    assert_ne!(checked(1), checked(2));
}

#[test]
fn many_clients_divide_the_work() {
    for distribution in [Distribution::Zipfian, Distribution::Uniform] {
        let store = btree();
        let settings = Settings { threads: 7, distribution, ..small() };
        let reports = run_all(&store, settings);
        assert!(reports.iter().all(|report| report.threads == 7));
        assert!(reports[1..].iter().all(|report| report.operations == 1_000));
        let inserted: u64 = reports.last().unwrap().records;
        let found = store.client().map(|mut client| {
            let mut found = 0;
            client.scan(b"", usize::MAX, &mut |_, _| found += 1).unwrap();
            found
        });
        assert_eq!(found.unwrap(), inserted);
    }
}

#[test]
fn runs_that_make_no_sense_are_refused() {
    let store = btree();
    let refused = |settings: Settings| {
        let error = Bench::new(&store, settings).err().map(|error| (error.kind(), error.to_string()));
        let (kind, message) = error.unwrap();
        assert_eq!(kind, ErrorKind::Invalid, "{message}");
        assert!(message.contains("possible"), "{message}");
    };
    refused(Settings { records: 1, ..small() });
    refused(Settings { operations: 0, ..small() });
    refused(Settings { threads: 0, ..small() });
    refused(Settings { threads: 257, ..small() });
    refused(Settings { value_bytes: 3, ..small() });

    let mut bench = Bench::new(&store, small()).unwrap();
    assert_eq!(bench.run(Workload::C).unwrap_err().kind(), ErrorKind::Invalid);
    bench.run(Workload::Load).unwrap();
    assert_eq!(bench.run(Workload::Load).unwrap_err().kind(), ErrorKind::Invalid);
    bench.set_load(3, 300).unwrap();
    assert_eq!(bench.run(Workload::C).unwrap().threads, 3);

    let unordered = Lying { inner: btree(), lie: Lie::NoScans };
    let mut bench = Bench::new(&unordered, small()).unwrap();
    bench.run(Workload::Load).unwrap();
    let error = bench.run(Workload::E).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("order of the keys"), "{error}");
}

/// What a lying store does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    /// Says that it cannot scan.
    NoScans,
    /// Swaps two entries of a scan.
    NoOrder,
    /// Gives the value of another key.
    NeighboursValue,
    /// Flips a bit of one value.
    FlippedBit,
    /// Finds a key no more.
    LostKey,
    /// Has a value for everything.
    NothingIsAbsent,
    /// Begins a scan one entry late.
    LateScan,
    /// Gives the last entry of a scan twice.
    DoubledEntry,
    /// Gives one entry more than it was asked for.
    OneTooMany,
}

struct Lying {
    inner: PugdbStore,
    lie: Lie,
}

struct LyingClient<'a> {
    inner: Box<dyn Client + Send + 'a>,
    lie: Lie,
    calls: u32,
    last: Vec<u8>,
}

impl Store for Lying {
    fn capabilities(&self) -> Capabilities {
        Capabilities { scans: self.lie != Lie::NoScans, ..self.inner.capabilities() }
    }

    fn client(&self) -> Result<Box<dyn Client + Send + '_>> {
        let inner = self.inner.client()?;
        Ok(Box::new(LyingClient { inner, lie: self.lie, calls: 0, last: vec![0; 100] }))
    }
}

impl Client for LyingClient<'_> {
    fn get(&mut self, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool> {
        self.calls += 1;
        let mut value = Vec::new();
        let found = self.inner.get(key, &mut |found| value = found.to_vec())?;
        match self.lie {
            Lie::NeighboursValue => std::mem::swap(&mut value, &mut self.last),
            Lie::FlippedBit if self.calls == 900 => value[99] ^= 1,
            Lie::LostKey if self.calls == 900 => return Ok(false),
            Lie::NothingIsAbsent => {
                read(b"");
                return Ok(true);
            }
            _ => {}
        }
        read(&value);
        Ok(found)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.inner.put(key, value)
    }

    fn scan(&mut self, start: &[u8], limit: usize, read: &mut dyn FnMut(&[u8], &[u8])) -> Result<()> {
        let asked = match self.lie {
            Lie::OneTooMany | Lie::LateScan => limit + 1,
            Lie::DoubledEntry => limit.saturating_sub(1),
            _ => limit,
        };
        let mut entries = Vec::new();
        self.inner.scan(start, asked, &mut |key, value| entries.push((key.to_vec(), value.to_vec())))?;
        match self.lie {
            Lie::LateScan if !entries.is_empty() => drop(entries.remove(0)),
            Lie::DoubledEntry if !entries.is_empty() => entries.push(entries[entries.len() - 1].clone()),
            Lie::NoOrder if entries.len() > 2 => entries.swap(1, 2),
            Lie::NeighboursValue if entries.len() > 1 => entries[1].1 = entries[0].1.clone(),
            _ => {}
        }
        for (key, value) in &entries {
            read(key, value);
        }
        Ok(())
    }
}

#[test]
fn a_store_that_lies_fails_the_run() {
    for (lie, workload, told) in [
        (Lie::NeighboursValue, Workload::C, "not written for its key"),
        (Lie::FlippedBit, Workload::C, "not written for its key"),
        (Lie::FlippedBit, Workload::F, "not written for its key"),
        (Lie::LostKey, Workload::B, "found nothing"),
        (Lie::LostKey, Workload::D, "found nothing"),
        (Lie::NothingIsAbsent, Workload::M, "never written"),
        (Lie::LateScan, Workload::E, "did not begin"),
        (Lie::DoubledEntry, Workload::E, "out of order"),
        (Lie::NoOrder, Workload::E, "out of order"),
        (Lie::NeighboursValue, Workload::E, "not written for its key"),
        (Lie::OneTooMany, Workload::E, "more entries"),
    ] {
        for threads in [1, 4] {
            let store = Lying { inner: btree(), lie };
            let settings = Settings { threads, operations: 1_000 * threads as u64, ..small() };
            let mut bench = Bench::new(&store, settings).unwrap();
            bench.run(Workload::Load).unwrap();
            let error = bench.run(workload).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{lie:?} in {workload}: {error}");
            assert!(error.to_string().contains(told), "{lie:?} in {workload}: {error}");
        }
    }
}

#[test]
fn the_yardstick_knows_what_it_takes_itself() {
    for workload in Workload::ALL {
        let report = overhead(&small(), workload).unwrap();
        assert!(report.cpu_us_per_op > 0.0, "{workload}");
        assert_eq!(report.misses, if workload == Workload::M { 1_000 } else { 0 });
    }
}

#[test]
fn a_report_is_one_json_object_with_the_fields_that_are_promised() {
    let report = overhead(&small(), Workload::C).unwrap();
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["workload"], "C");
    for field in ["ops_per_second", "cpu_us_per_op", "p50_us", "p99_us", "p999_us", "max_us", "seconds"] {
        assert!(json[field].is_f64(), "{field} in {json}");
    }
    for field in ["operations", "records", "value_bytes", "threads", "batch", "checked", "misses"] {
        assert!(json[field].is_u64(), "{field} in {json}");
    }
    assert_eq!(json["distribution"], "zipfian");
}
