//! What `bench/instructions.sh` counts: gets, puts or scans of 50 on a warm database of 100,000 entries. Under callgrind
//! only what runs inside `measured` is counted.

use std::path::Path;

use pugdb::audit::{AuditAccess, AuditOptions, AuditRule};
use pugdb::keys::KeyFile;
use pugdb::{Database, Durability, EntryOptions, Error, Keyspace, KeyspaceOptions, Quota, Result};
use pugdb_ycsb::{Client, Key, PugdbStore, Random, Store, Values, key};

const ENTRIES: u64 = 100_000;
const VALUE_BYTES: usize = 100;
const SCAN_LENGTH: usize = 50;
/// How many calls are made; the script divides by it.
const CALLS: u64 = 1_000;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = || {
        Error::invalid(
            "usage: instructions prepare|get|put|scan DIRECTORY [plain|quota|encrypted|subject|audited]",
        )
    };
    let what = arguments.next().ok_or_else(usage)?;
    let dir = arguments.next().ok_or_else(usage)?;
    let (mut builder, mut options) =
        (Database::builder().durability(Durability::Os), KeyspaceOptions::default());
    let variant = arguments.next();
    match variant.as_deref() {
        None | Some("plain") => {}
        Some("quota") => options.quota_bytes = Some(Quota::AtMost(1 << 40)),
        Some("encrypted" | "subject") => builder = builder.root_key(KeyFile::new(format!("{dir}.key"))),
        Some("audited") => {
            let rules = vec![AuditRule::new("another", AuditAccess::All)];
            builder = builder.audit(AuditOptions { rules, ..AuditOptions::default() });
        }
        Some(_) => return Err(usage()),
    }
    let db = builder.open(Path::new(&dir))?;
    let keyspace = db.keyspace_with("ycsb", options)?;
    let store = PugdbStore::new(db.clone(), keyspace.clone(), true);
    let mut client = store.client()?;
    if variant.as_deref() == Some("subject") {
        client = Box::new(OfSubject { db: db.clone(), keyspace, inner: client });
    }
    let values = Values::new(VALUE_BYTES, 1)?;
    match what.as_str() {
        "prepare" => {
            let mut value = Vec::new();
            for record in 0..ENTRIES {
                let key = key(record);
                values.make(&key, record, &mut value);
                client.put(&key, &value)?;
            }
            db.flush()?;
        }
        "get" | "put" | "scan" => {
            warm_up(&mut *client)?;
            let mut random = Random::new(1);
            let calls: Vec<(Key, Vec<u8>)> = (0..CALLS)
                .map(|version| {
                    let key = key(random.below(ENTRIES));
                    let mut value = Vec::new();
                    values.make(&key, ENTRIES + version, &mut value);
                    (key, value)
                })
                .collect();
            let seen = measured(&mut *client, &what, &calls)?;
            let per_call = if what == "scan" { SCAN_LENGTH as u64 } else { 1 };
            // Fewer only where a scan meets the last key.
            if seen > CALLS * per_call || seen < CALLS * per_call * 99 / 100 {
                return Err(Error::corrupt(format!("{CALLS} calls of {what} met {seen} entries")));
            }
        }
        _ => return Err(usage()),
    }
    drop(client);
    db.close()
}

/// Puts values for a subject, by its name each time.
struct OfSubject<'a> {
    db: Database,
    keyspace: Keyspace,
    inner: Box<dyn Client + Send + 'a>,
}

impl Client for OfSubject<'_> {
    fn get(&mut self, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool> {
        self.inner.get(key, read)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let seal = Some(self.db.subject("customer-17")?);
        self.keyspace.put_with(key, value, EntryOptions { seal, ..EntryOptions::default() })
    }

    fn scan(&mut self, start: &[u8], limit: usize, read: &mut dyn FnMut(&[u8], &[u8])) -> Result<()> {
        self.inner.scan(start, limit, read)
    }
}

/// Every block is in the cache after it.
fn warm_up(client: &mut dyn Client) -> Result<()> {
    let mut entries = 0;
    client.scan(b"", usize::MAX, &mut |_, _| entries += 1)?;
    if entries < ENTRIES {
        return Err(Error::invalid(format!("{entries} entries are there; prepare the directory first")));
    }
    Ok(())
}

/// The only part that is counted. Returns how many entries it met.
#[inline(never)]
fn measured(client: &mut dyn Client, what: &str, calls: &[(Key, Vec<u8>)]) -> Result<u64> {
    let mut seen = 0;
    for (key, value) in calls {
        match what {
            "get" => seen += u64::from(client.get(key, &mut |_| {})?),
            "put" => {
                client.put(key, value)?;
                seen += 1;
            }
            _ => client.scan(key, SCAN_LENGTH, &mut |_, _| seen += 1)?,
        }
    }
    Ok(seen)
}
