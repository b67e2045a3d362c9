//! A table that takes part in reads: known by what the manifest says of it, and opened when somebody first needs more.
//! Read path, step 3.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use pugdb_core::env::Event;
use pugdb_core::seam::{AtHand, FileKind, Wait};
use pugdb_core::{Error, ErrorKind, FileId, Key, Result, Seqno};

use super::Graveyard;
use super::value_files::{LiveValues, ValueFiles};
use crate::file::Context;
use crate::manifest::TableEntry;
use crate::table::{self, BlockCache, Bounds, Table, TableMeta, TableSummary, TableWalk};
use crate::tombstones::{Stretch, Tombstones};

/// Where the tables of a store come from, and where they go.
pub(crate) struct Shelf {
    pub(crate) context: Context,
    pub(crate) cache: Arc<BlockCache>,
    pub(crate) graveyard: Arc<Graveyard>,
    pub(crate) value_files: ValueFiles,
}

/// A table that takes part in reads.
pub(crate) struct LiveTable {
    bounds: Bounds,
    /// No entry of it is newer. Kept here too: reads of keys that were deleted look at it first.
    newest: Seqno,
    /// There from the first read on. To find it there writes nothing.
    table: OnceLock<Arc<Table>>,
    file: Arc<TableFile>,
}

/// A table's file, of which several tables may show a part each, to readers of older and newer versions. When it is
/// doomed, it goes with the last of them.
struct TableFile {
    shelf: Arc<Shelf>,
    meta: Arc<TableMeta>,
    /// Stands for the seqno of every entry, in a table made elsewhere.
    global_seqno: Option<Seqno>,
    /// Nothing is left in it of what range deletes up to here hide.
    cleared: Seqno,
    /// The value files that it points into: they stay as long as it does.
    values: Vec<Arc<LiveValues>>,
    doomed: AtomicBool,
    quarantined: AtomicBool,
    /// Guards who opens it. Who finds the table in [`LiveTable`] does not look here.
    whole: Mutex<Whole>,
    /// Notified when somebody has opened it, or has failed to.
    settled: Event,
}

/// All of a file, as a table.
enum Whole {
    Closed,
    /// Somebody is at it.
    Opening,
    Open(Arc<Table>),
    /// It keeps its place: a read within its bounds is an error, never the older version beneath.
    Damaged(Error),
}

impl LiveTable {
    /// A table as the manifest knows it. Nothing is read.
    pub(crate) fn closed(shelf: &Arc<Shelf>, entry: &TableEntry) -> Arc<Self> {
        Arc::new(Self {
            bounds: Bounds { first: entry.bounds.0.clone(), last: entry.bounds.1.clone() },
            newest: entry.global_seqno.unwrap_or(entry.meta.max_seqno),
            table: OnceLock::new(),
            file: TableFile::new(
                shelf,
                &entry.meta,
                (entry.global_seqno, entry.cleared),
                entry.quarantined,
                Whole::Closed,
            ),
        })
    }

    /// A table that was written here, read again and found sound. Nothing is left in it of what range deletes up to
    /// `cleared` hide.
    pub(crate) fn open(shelf: &Arc<Shelf>, table: Arc<Table>, cleared: Seqno) -> Arc<Self> {
        let whole = Whole::Open(Arc::clone(&table));
        Arc::new(Self {
            bounds: table.bounds().clone(),
            newest: table.global_seqno().unwrap_or(table.meta().max_seqno),
            file: TableFile::new(shelf, table.meta(), (table.global_seqno(), cleared), false, whole),
            table: table.into(),
        })
    }

    /// The same table, of which only keys from `first` on are seen.
    pub(crate) fn from(&self, first: &Key) -> Arc<Self> {
        let bounds = Bounds { first: first.clone(), last: self.bounds.last.clone() };
        Arc::new(Self { bounds, newest: self.newest, table: OnceLock::new(), file: Arc::clone(&self.file) })
    }

    /// The table as the manifest knows it, in the run with this number.
    pub(crate) fn entry(&self, run: u64) -> TableEntry {
        TableEntry {
            meta: Arc::clone(&self.file.meta),
            run,
            global_seqno: self.file.global_seqno,
            bounds: (self.bounds.first.clone(), self.bounds.last.clone()),
            quarantined: self.is_quarantined(),
            cleared: self.file.cleared,
        }
    }

    pub(crate) fn id(&self) -> FileId {
        self.file.meta.id
    }

    /// What the manifest keeps of the file.
    pub(crate) fn meta(&self) -> &TableMeta {
        &self.file.meta
    }

    /// The keys that readers see of it.
    pub(crate) fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// No entry of it is newer.
    #[inline]
    pub(crate) fn newest(&self) -> Seqno {
        self.newest
    }

    /// False when nothing in it is hidden by a range tombstone of this seqno, or was when it was written.
    pub(crate) fn may_hold_hidden(&self, tombstone: Seqno) -> bool {
        let oldest = self.file.global_seqno.unwrap_or(self.meta().min_seqno);
        oldest < tombstone && self.file.cleared < tombstone
    }

    /// True when readers at `at` see nothing of it.
    pub(crate) fn is_covered(&self, tombstones: &Tombstones, at: Seqno) -> bool {
        tombstones.cover(&self.bounds.first, &self.bounds.last, self.newest, at)
    }

    /// About how many bytes of the file would go if it were written anew, for what range deletes hide at `at`, and how many
    /// stretches of keys that are. Of a table that is not open the bytes are not known, and count as none.
    pub(crate) fn covered_bytes(&self, tombstones: &Tombstones, at: Seqno) -> (u64, u64) {
        if tombstones.is_empty() || at <= self.file.cleared {
            return (0, 0);
        }
        let between = |stretch: &Stretch| {
            self.if_open().map_or(0, |table| table.bytes_between(&stretch.start, stretch.end.as_deref()))
        };
        let hidden = tombstones
            .stretches(&self.bounds.first, &self.bounds.last, at)
            .filter(|stretch| self.may_hold_hidden(stretch.floor));
        hidden.fold((0, 0), |(bytes, stretches), stretch| (bytes + between(&stretch), stretches + 1))
    }

    /// What part of its entries readers see, near enough: so many of so many.
    pub(crate) fn shown_part(&self) -> (u64, u64) {
        let meta = self.meta();
        if self.bounds.first == meta.first && self.bounds.last == meta.last {
            return (1, 1);
        }
        // A merge has come to its middle, somewhere: it is not opened to see where.
        self.table.get().map_or((1, 2), |table| table.shown_part())
    }

    /// A part of it is damaged, or it cannot be opened: its run is never merged.
    pub(crate) fn is_quarantined(&self) -> bool {
        self.file.quarantined.load(Ordering::Acquire)
    }

    pub(crate) fn quarantine(&self) {
        self.file.quarantined.store(true, Ordering::Release);
    }

    /// No manifest names it any more: the file goes with its last reader, and so do value files into which no other table
    /// points.
    pub(super) fn doom(&self) {
        if !self.file.doomed.swap(true, Ordering::AcqRel) {
            self.file.values.iter().for_each(|values| values.doom_table());
        }
    }

    /// The table, to be read. It is opened when it is not, if `wait` allows that.
    ///
    /// # Errors
    /// `Corrupt` when it is damaged or gone, which puts it in quarantine; what the store says when it cannot be read, and
    /// what the cipher says when the key is wrong, which is tried again the next time.
    pub(crate) fn table(&self, wait: Wait) -> Result<AtHand<&Arc<Table>>> {
        if let Some(table) = self.table.get() {
            return Ok(AtHand::Yes(table));
        }
        self.open_now(wait)
    }

    /// [`table`](Self::table) for those who may wait.
    pub(crate) fn opened(&self) -> Result<&Arc<Table>> {
        self.table(Wait::Always)?.waited()
    }

    /// [`opened`](Self::opened) for jobs, which wait for no reader.
    pub(crate) fn opened_by_job(&self) -> Result<&Arc<Table>> {
        match self.table.get() {
            Some(table) => Ok(table),
            None => self.file.open_beside().map(|whole| self.shown(whole)),
        }
    }

    /// The table, if somebody has opened it.
    pub(crate) fn if_open(&self) -> Option<&Arc<Table>> {
        self.table.get()
    }

    #[cold]
    fn open_now(&self, wait: Wait) -> Result<AtHand<&Arc<Table>>> {
        let Some(whole) = self.file.open(wait)? else { return Ok(AtHand::WouldBlock) };
        Ok(AtHand::Yes(self.shown(whole)))
    }

    fn shown(&self, whole: Arc<Table>) -> &Arc<Table> {
        let is_whole = *whole.bounds() == self.bounds;
        self.table.get_or_init(|| if is_whole { whole } else { whole.within(self.bounds.clone()) })
    }

    /// True when no manifest names the file any more.
    pub(crate) fn is_doomed(&self) -> bool {
        self.file.doomed.load(Ordering::Acquire)
    }

    /// [`verify`](Self::verify) a step at a time; at first there is no walk.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub(crate) fn verify_step(&self, walk: &mut Option<TableWalk>) -> Result<Option<TableSummary>> {
        let walked = match walk {
            Some(walk) => walk.step(),
            None => TableWalk::begin(&self.file.shelf.context, &self.file.meta).map(|begun| {
                *walk = Some(begun);
                None
            }),
        };
        walked.map_err(missing_is_damage)
    }

    /// Reads the whole file, past everything that is in memory.
    ///
    /// # Errors
    /// `Corrupt` when it is damaged or gone, what the store says when it cannot be read.
    pub(crate) fn verify(&self) -> Result<TableSummary> {
        table::verify(&self.file.shelf.context, &self.file.meta).map_err(missing_is_damage)
    }
}

impl TableFile {
    fn new(
        shelf: &Arc<Shelf>,
        meta: &Arc<TableMeta>,
        (global_seqno, cleared): (Option<Seqno>, Seqno),
        quarantined: bool,
        whole: Whole,
    ) -> Arc<Self> {
        Arc::new(Self {
            shelf: Arc::clone(shelf),
            meta: Arc::clone(meta),
            global_seqno,
            cleared,
            values: shelf.value_files.name(&shelf.graveyard, &meta.values),
            doomed: AtomicBool::new(false),
            quarantined: AtomicBool::new(quarantined),
            whole: Mutex::new(whole),
            settled: Event::default(),
        })
    }

    /// All of it. One of those who need it at the same time opens it, the others wait. `None` when it is not open and
    /// `wait` is [`Wait::Never`].
    fn open(&self, wait: Wait) -> Result<Option<Arc<Table>>> {
        let executor = &self.shelf.context.env.executor;
        loop {
            let mut whole = self.whole.lock();
            match &*whole {
                Whole::Open(table) => return Ok(Some(Arc::clone(table))),
                Whole::Damaged(error) => return Err(error.clone()),
                Whole::Closed | Whole::Opening if wait == Wait::Never => return Ok(None),
                Whole::Closed => {
                    *whole = Whole::Opening;
                    drop(whole);
                    let _turn = Turn(self);
                    return self.read().map(Some);
                }
                Whole::Opening => drop(whole),
            }
            let mut is_settled = || !matches!(*self.whole.lock(), Whole::Opening);
            executor.block_until(&self.settled, None, &mut is_settled);
        }
    }

    /// [`open`](Self::open) without a wait for anybody who is at it.
    fn open_beside(&self) -> Result<Arc<Table>> {
        match &*self.whole.lock() {
            Whole::Open(table) => return Ok(Arc::clone(table)),
            Whole::Damaged(error) => return Err(error.clone()),
            Whole::Closed | Whole::Opening => {}
        }
        self.read()
    }

    fn read(&self) -> Result<Arc<Table>> {
        let Shelf { context, cache, value_files, .. } = &*self.shelf;
        let (meta, cache) = (Arc::clone(&self.meta), Arc::clone(cache));
        let (bounds, values) = (meta.bounds(), value_files.open(context, &meta));
        let opened = Table::open_with(context, cache, meta, bounds, self.global_seqno, values)
            .map_err(missing_is_damage);
        let mut whole = self.whole.lock();
        match (&*whole, opened) {
            // Somebody beside was quicker.
            (Whole::Open(table), _) => Ok(Arc::clone(table)),
            (_, Ok(table)) => {
                *whole = Whole::Open(Arc::clone(&table));
                Ok(table)
            }
            (_, Err(error)) => {
                if error.kind() == ErrorKind::Corrupt {
                    self.quarantined.store(true, Ordering::Release);
                    *whole = Whole::Damaged(error.clone());
                }
                Err(error)
            }
        }
    }
}

/// The turn of the reader who opens a file. However it ends, those who wait are told.
struct Turn<'a>(&'a TableFile);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut whole = self.0.whole.lock();
        if matches!(*whole, Whole::Opening) {
            *whole = Whole::Closed;
        }
        drop(whole);
        self.0.settled.notify();
    }
}

impl Drop for TableFile {
    fn drop(&mut self) {
        if self.doomed.load(Ordering::Acquire) {
            self.shelf.graveyard.bury(FileKind::Table, self.meta.id);
        } else {
            self.values.iter().for_each(|values| values.forget_table());
        }
    }
}

/// A file that the manifest names is there. One of another version is not damaged, and stays out of quarantine.
fn missing_is_damage(error: Error) -> Error {
    if error.kind() == ErrorKind::NotFound {
        return Error::corrupt(format!("{error}; the manifest names this table; restore it from a backup"));
    }
    error
}

#[cfg(test)]
mod tests;
