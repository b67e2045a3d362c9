//! The value files of a store, and how long each lives: as long as a table that readers see points into it, and then as long
//! as the last reader of such a table.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use pugdb_core::FileId;
use pugdb_core::seam::FileKind;

use super::Graveyard;
use crate::file::Context;
use crate::table::TableMeta;
use crate::values::{ValueFile, ValueUse};

/// Fewer are not worth a look.
const SWEEP_AT_MIN: usize = 64;

/// Those that are known, each once for all tables that point into it.
#[derive(Default)]
pub(crate) struct ValueFiles {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    files: BTreeMap<FileId, Weak<ValueFile>>,
    live: BTreeMap<FileId, Weak<LiveValues>>,
    /// With so many of them those that are gone are forgotten.
    sweep_at: usize,
}

/// A value file into which tables point that take part in reads.
pub(super) struct LiveValues {
    id: FileId,
    graveyard: Arc<Graveyard>,
    /// How many tables point into it that are not doomed.
    named: AtomicUsize,
    /// The last one was.
    doomed: AtomicBool,
}

impl ValueFiles {
    /// The value files into which a table points, in its order. Nothing is read.
    pub(super) fn open(&self, context: &Context, table: &TableMeta) -> Arc<[Arc<ValueFile>]> {
        if table.values.is_empty() {
            return Arc::default();
        }
        let mut known = self.known.lock();
        known.sweep();
        let mut file = |used: &ValueUse| {
            let file = known.files.get(&used.file).and_then(Weak::upgrade);
            let file = file.unwrap_or_else(|| ValueFile::new(context, table.keyspace, used));
            known.files.insert(used.file, Arc::downgrade(&file));
            file
        };
        table.values.iter().map(&mut file).collect()
    }

    /// The same ones, of a table that is to take part in reads.
    pub(super) fn name(&self, graveyard: &Arc<Graveyard>, values: &[ValueUse]) -> Vec<Arc<LiveValues>> {
        if values.is_empty() {
            return Vec::new();
        }
        let mut known = self.known.lock();
        known.sweep();
        let name = |used: &ValueUse| {
            let live = known.live.get(&used.file).and_then(Weak::upgrade).unwrap_or_else(|| {
                let (named, doomed) = Default::default();
                Arc::new(LiveValues { id: used.file, graveyard: Arc::clone(graveyard), named, doomed })
            });
            known.live.insert(used.file, Arc::downgrade(&live));
            live.named.fetch_add(1, Ordering::AcqRel);
            live
        };
        values.iter().map(name).collect()
    }
}

impl Known {
    fn sweep(&mut self) {
        if self.files.len().max(self.live.len()) < self.sweep_at {
            return;
        }
        self.files.retain(|_, file| file.strong_count() > 0);
        self.live.retain(|_, live| live.strong_count() > 0);
        self.sweep_at = SWEEP_AT_MIN.max(2 * self.files.len().max(self.live.len()));
    }
}

impl LiveValues {
    /// A table that pointed into it was given up before it counted, or is closed: the file stays.
    pub(super) fn forget_table(&self) {
        self.named.fetch_sub(1, Ordering::AcqRel);
    }

    /// A table that pointed into it takes part in no reads any more, and no manifest names it.
    pub(super) fn doom_table(&self) {
        if self.named.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.doomed.store(true, Ordering::Release);
        }
    }
}

impl Drop for LiveValues {
    fn drop(&mut self) {
        if self.doomed.load(Ordering::Acquire) {
            self.graveyard.bury(FileKind::Values, self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use pugdb_core::env::Env;
    use pugdb_core::seam::{Plain, Sealing};
    use pugdb_core::{DatabaseId, KeyspaceId};

    use super::*;
    use crate::table::{Compression, LocalTables};
    use crate::values::{ValueWriter, WrittenValues, path};

    const KEYSPACE: KeyspaceId = KeyspaceId(3);

    /// Says whether a value file is there after two tables that point into it have come and gone as `end` has it.
    fn stays(end: impl FnOnce(&LiveValues, &LiveValues)) -> bool {
        let dir = tempfile::tempdir().unwrap();
        let env = Env::os();
        let tables = dir.path().join("tables");
        env.fs.create_dir_all(&tables).unwrap();
        let local = Arc::new(LocalTables::new(&env, tables));
        let (dir, database, cipher) = (dir.path().to_path_buf(), DatabaseId([7; 16]), Arc::new(Plain));
        let context = Context {
            env,
            dir,
            database,
            cipher,
            tables: local,
            observers: pugdb_core::observer::Observers::default(),
        };
        let mut writer = ValueWriter::create(&context, KEYSPACE, Compression::None, Sealing::Sealed).unwrap();
        let (_, bytes) = writer.add(b"ada", b"1815").unwrap();
        let meta = WrittenValues::sync(vec![writer.finish().unwrap()]).unwrap()[0];
        let used = ValueUse {
            file: meta.id,
            file_bytes: meta.bytes,
            record_bytes: meta.record_bytes,
            bytes: bytes as u64,
            sealing: meta.sealing,
        };
        let (graveyard, files) = (Graveyard::new(&context), ValueFiles::default());
        let table = || files.name(&graveyard, &[used]).pop().unwrap();
        let (one, other) = (table(), table());
        assert!(Arc::ptr_eq(&one, &other));
        end(&one, &other);
        assert!(path(&context, meta.id).exists(), "somebody may still read it");
        drop((one, other));
        path(&context, meta.id).exists()
    }

    #[test]
    fn a_value_file_goes_with_the_last_table_and_not_because_a_database_is_closed() {
        assert!(!stays(|one, other| {
            one.doom_table();
            other.doom_table();
        }));
        assert!(stays(|one, _| one.doom_table()), "another table points into it");
        assert!(stays(|one, other| {
            one.doom_table();
            other.forget_table();
        }));
        // A table that was given up is none to wait for.
        assert!(!stays(|one, other| {
            one.forget_table();
            other.doom_table();
        }));
    }
}
