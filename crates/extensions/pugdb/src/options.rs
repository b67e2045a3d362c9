//! How keyspaces are made, and what of it can change.

use std::time::Duration;

use pugdb_core::engine::{EngineKind, Persistence};
use pugdb_core::seam::Sealing;
use pugdb_core::{Error, Result};
use pugdb_lsm::table::{Compression, PrefixExtractor};
use pugdb_lsm::{Logging, TreeOptions};

use crate::Quota;

/// How a keyspace is made. What is `None` is as the database's
/// [`default_options`](crate::Builder::default_options) have it, and else the default that is named here.
///
/// They are written to disk with the keyspace, and count for as long as it exists, whatever the defaults are when it is
/// opened again. All but the engine and the logging can be [altered](crate::Keyspace::alter).
///
/// ```
/// use pugdb::{Compression, Database, KeyspaceOptions};
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("data");
/// let db = Database::open(&path)?;
/// let small = KeyspaceOptions { bottom_compression: Some(Compression::ZSTD), ..Default::default() };
/// let archive = db.keyspace_with("archive", small)?;
/// archive.put(b"ada", b"1815")?;
/// assert_eq!(archive.options().bottom_compression, Some(Compression::Zstd { level: 1 }));
///
/// // What can be made again need not be in the log.
/// let scratch = KeyspaceOptions { logging: Some(pugdb::Logging::Unlogged), ..Default::default() };
/// let index = db.keyspace_with("index", scratch)?;
/// index.put(b"lovelace", b"ada")?;
/// db.flush()?; // from here on a crash does not take it
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyspaceOptions {
    /// What keeps the entries: the lsm engine on disk, the btree in memory.
    pub engine: Option<EngineKind>,
    /// How young tables are compressed, which will soon be merged: not at all.
    pub upper_compression: Option<Compression>,
    /// How tables are compressed in which nothing older lies beneath, where most of the data is: by LZ4.
    pub bottom_compression: Option<Compression>,
    /// About how much of a table is read and decompressed at once: 8 KiB; 64 bytes to 1 MiB.
    pub block_bytes: Option<usize>,
    /// Bits of memory for each key, by which a table knows most keys that it does not have: 10; at most 20, and 0 for
    /// keyspaces in which nobody looks for what is absent.
    pub filter_bits: Option<u8>,
    /// What of a key is its prefix: none. A [scan](crate::Keyspace::prefix) of which all keys have the same prefix then passes
    /// over tables that have no key with it. `docs/guide/prefixes.md`.
    pub prefix: Option<PrefixExtractor>,
    /// Values of so many bytes and more are kept in files of their own beside the tables: 0, which is none; else 8 bytes to
    /// 512 MiB. Merges then move where a value lies and not the value: much less is written where values are overwritten;
    /// a scan reads each value at its own place, and costs more. `docs/guide/large-values.md`.
    pub separate_values: Option<usize>,
    /// Whether its commits are in the log, as they are if nothing is said. For what can be made again: a write without the
    /// log costs memory and nothing else at first, and after a crash the keyspace holds what it held at one of its
    /// flushes, the last one that had ended or one that was under way. [`Database::flush`](crate::Database::flush) makes
    /// durable what was written until then, and so does a close. It never changes. A batch changes such a keyspace
    /// alone or not at all, for after a crash it could be half there.
    pub logging: Option<Logging>,
    /// How long an entry lives that was written without an expiry of its own: for ever; [`Duration::ZERO`] takes a default
    /// back. It counts from the write, to the millisecond, and what was written before it was set keeps what it has.
    pub default_expiry: Option<Duration>,
    /// How many bytes it may take: any number; 0 is refused. What counts is what [`Keyspace::usage`](crate::Keyspace::usage) shows,
    /// exact to the byte. A write that would pass it, and adds anything, is refused before it changes anything; what only deletes is
    /// let in. Old versions and deletes count until flushes and merges are rid of them, so leave room for them: a quota is for
    /// what a keyspace takes, not for what lives in it. `docs/guide/operating.md`.
    ///
    /// It is `Unavailable`, as a full disk is, and not `Denied`, for what helps is the same: make room and write again; no right is
    /// missing. [`Error::is_over_quota`](crate::Error::is_over_quota) tells it from the other reasons.
    ///
    /// ```
    /// use pugdb::{Database, ErrorKind, KeyspaceOptions, Quota};
    ///
    /// let db = Database::in_memory()?;
    /// let most = |bytes| KeyspaceOptions { quota_bytes: Some(Quota::AtMost(bytes)), ..Default::default() };
    /// let users = db.keyspace_with("users", most(1000))?;
    /// users.put(b"ada", [7; 800])?;
    /// let error = users.put(b"bob", [7; 800]).unwrap_err();
    /// assert!(error.kind() == ErrorKind::Unavailable && error.is_over_quota());
    /// users.alter(most(2000))?;
    /// users.put(b"bob", [7; 800])?;
    /// users.alter(KeyspaceOptions { quota_bytes: Some(Quota::None), ..Default::default() })?;
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub quota_bytes: Option<Quota>,
    /// How many keys it may have: any number; 0 is refused. They are not counted but estimated, as
    /// [`approximate_counts`](crate::Keyspace::approximate_counts) does: right in memory, and on disk where each key is written once.
    /// Else a key counts in every run and memtable that has a version of it, so that writes are refused too early, and a delete of
    /// what was not there takes one away, so that as many keys too many come in; a merge of everything
    /// ([`compact_range`](crate::Keyspace::compact_range)) makes it right again. Each put counts as a new key, for whether it is one
    /// nobody looks.
    pub quota_keys: Option<Quota>,
    /// Whether its tables and value files are sealed, in a [database that is encrypted](crate::Builder::root_key): they are. Log and
    /// manifest are sealed in any case. For what is public anyway and large. Changed, it counts for new files; those that are
    /// there follow when they are merged, or with [`rewrite`](crate::Database::rewrite).
    ///
    /// ```
    /// use pugdb::keys::KeyFile;
    /// use pugdb::{Database, KeyspaceOptions, Sealing};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let (path, key) = (dir.path().join("data"), dir.path().join("orders.key"));
    /// let db = Database::builder().root_key(KeyFile::new(&key)).open(&path)?;
    /// let plain = KeyspaceOptions { sealing: Some(Sealing::Plain), ..Default::default() };
    /// let tiles = db.keyspace_with("tiles", plain)?;
    /// assert_eq!(tiles.options().sealing, Some(Sealing::Plain));
    /// assert_eq!(db.keyspace("users")?.options().sealing, Some(Sealing::Sealed));
    /// # Ok::<(), pugdb::Error>(())
    /// ```
    pub sealing: Option<Sealing>,
}

impl KeyspaceOptions {
    /// These, and `others` where these say nothing.
    pub(crate) fn or(self, others: Self) -> Self {
        Self {
            engine: self.engine.or(others.engine),
            upper_compression: self.upper_compression.or(others.upper_compression),
            bottom_compression: self.bottom_compression.or(others.bottom_compression),
            block_bytes: self.block_bytes.or(others.block_bytes),
            filter_bits: self.filter_bits.or(others.filter_bits),
            prefix: self.prefix.or(others.prefix),
            separate_values: self.separate_values.or(others.separate_values),
            logging: self.logging.or(others.logging),
            default_expiry: self.default_expiry.or(others.default_expiry),
            quota_bytes: self.quota_bytes.or(others.quota_bytes),
            quota_keys: self.quota_keys.or(others.quota_keys),
            sealing: self.sealing.or(others.sealing),
        }
    }

    /// All that a keyspace is made of: how its tables are, if it has some, and what is looked at when it is written to.
    pub(crate) fn of(engine: EngineKind, tables: Option<TreeOptions>, written: &TreeOptions) -> Self {
        Self {
            default_expiry: written.default_expiry_ms.map(Duration::from_millis),
            quota_bytes: Some(Quota::of(written.quota_bytes)),
            quota_keys: Some(Quota::of(written.quota_keys)),
            engine: Some(engine),
            upper_compression: tables.map(|tables| tables.upper),
            bottom_compression: tables.map(|tables| tables.bottom),
            block_bytes: tables.map(|tables| tables.block_bytes),
            filter_bits: tables.map(|tables| tables.filter_bits),
            prefix: tables.map(|tables| tables.prefix),
            separate_values: tables.map(|tables| tables.separate_values.unwrap_or(0)),
            logging: tables.map(|tables| tables.logging),
            sealing: tables.map(|tables| tables.sealing),
        }
    }

    /// How tables are made that were made like `tables` when nothing was said.
    ///
    /// # Errors
    /// `Invalid` when one is out of range.
    pub(crate) fn tables(self, tables: TreeOptions) -> Result<TreeOptions> {
        let options = TreeOptions {
            upper: self.upper_compression.unwrap_or(tables.upper),
            bottom: self.bottom_compression.unwrap_or(tables.bottom),
            block_bytes: self.block_bytes.unwrap_or(tables.block_bytes),
            filter_bits: self.filter_bits.unwrap_or(tables.filter_bits),
            prefix: self.prefix.unwrap_or(tables.prefix),
            separate_values: match self.separate_values {
                Some(bytes) => Some(bytes).filter(|bytes| *bytes > 0),
                None => tables.separate_values,
            },
            logging: self.logging.unwrap_or(tables.logging),
            operator: tables.operator,
            default_expiry_ms: match self.default_expiry {
                Some(expiry) => expiry_ms(expiry)?,
                None => tables.default_expiry_ms,
            },
            quota_bytes: self.quota_bytes.map_or(tables.quota_bytes, Quota::stored),
            quota_keys: self.quota_keys.map_or(tables.quota_keys, Quota::stored),
            sealing: self.sealing.unwrap_or(tables.sealing),
        };
        options.check()?;
        Ok(options)
    }

    /// True when a keyspace with the options `all` is what is asked for here.
    pub(crate) fn agree_with(self, all: Self) -> bool {
        // Of a default that was taken back nothing is left.
        let default_expiry =
            self.default_expiry.filter(|expiry| !(expiry.is_zero() && all.default_expiry.is_none()));
        Self { default_expiry, ..self }.or(all) == all
    }

    /// Refuses what says how tables are made, for an engine that has none.
    pub(crate) fn check_for(self, engine: EngineKind) -> Result<()> {
        let of_tables =
            Self { engine: None, default_expiry: None, quota_bytes: None, quota_keys: None, ..self };
        if engine.persistence() == Persistence::Durable || of_tables == Self::default() {
            return Ok(());
        }
        Err(Error::invalid(
            "a keyspace in memory has no tables and no log: compression, blocks, filters, values apart, logging and sealing are of the \
             lsm engine",
        ))
    }
}

/// The default as it is written down.
///
/// # Errors
/// `Invalid` when it is shorter than a millisecond, and not nothing.
fn expiry_ms(expiry: Duration) -> Result<Option<u64>> {
    let milliseconds = u64::try_from(expiry.as_millis()).unwrap_or(u64::MAX);
    if milliseconds == 0 && !expiry.is_zero() {
        return Err(Error::invalid(
            "a default expiry is counted in milliseconds; this one is shorter than the first",
        ));
    }
    Ok((milliseconds > 0).then_some(milliseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME: KeyspaceOptions = KeyspaceOptions {
        engine: Some(EngineKind::Lsm),
        upper_compression: None,
        bottom_compression: Some(Compression::Snappy),
        block_bytes: None,
        filter_bits: Some(0),
        prefix: Some(PrefixExtractor::Length(2)),
        separate_values: Some(100),
        logging: None,
        default_expiry: Some(Duration::from_mins(1)),
        quota_bytes: Some(Quota::AtMost(1 << 30)),
        quota_keys: None,
        sealing: None,
    };

    #[test]
    fn what_is_said_counts_before_what_is_not() {
        let tables = SOME.tables(TreeOptions::default()).unwrap();
        let expected = TreeOptions {
            bottom: Compression::Snappy,
            filter_bits: 0,
            prefix: PrefixExtractor::Length(2),
            separate_values: Some(100),
            default_expiry_ms: Some(60_000),
            quota_bytes: Some(1 << 30),
            ..TreeOptions::default()
        };
        let none = KeyspaceOptions { separate_values: Some(0), ..KeyspaceOptions::default() };
        assert_eq!(none.tables(expected).unwrap().separate_values, None);
        assert_eq!(tables, expected);
        let all = KeyspaceOptions::of(EngineKind::Lsm, Some(tables), &tables);
        assert_eq!(SOME.or(all), all);
        assert!(SOME.agree_with(all) && KeyspaceOptions::default().agree_with(all));
        assert!(!KeyspaceOptions { filter_bits: Some(1), ..SOME }.agree_with(all));
        assert!(!KeyspaceOptions { prefix: Some(PrefixExtractor::None), ..SOME }.agree_with(all));
        assert!(!SOME.agree_with(KeyspaceOptions::of(EngineKind::Btree, None, &TreeOptions::default())));
    }

    #[test]
    fn a_default_expiry_is_milliseconds_or_nothing() {
        let with = |expiry| KeyspaceOptions { default_expiry: Some(expiry), ..Default::default() };
        let minute = with(Duration::from_mins(1)).tables(TreeOptions::default()).unwrap();
        assert_eq!(minute.default_expiry_ms, Some(60_000));
        assert_eq!(with(Duration::ZERO).tables(minute).unwrap().default_expiry_ms, None);
        assert!(with(Duration::from_micros(999)).tables(minute).is_err());
        let none =
            KeyspaceOptions::of(EngineKind::Lsm, Some(TreeOptions::default()), &TreeOptions::default());
        assert!(with(Duration::ZERO).agree_with(none) && !with(Duration::from_secs(1)).agree_with(none));
    }

    #[test]
    fn a_quota_is_a_number_or_none_and_not_nothing() {
        let with = |quota| KeyspaceOptions { quota_keys: Some(quota), ..Default::default() };
        let few = with(Quota::AtMost(3)).tables(TreeOptions::default()).unwrap();
        assert_eq!((few.quota_keys, few.quota_bytes), (Some(3), None));
        assert_eq!(KeyspaceOptions::default().tables(few).unwrap(), few);
        assert_eq!(with(Quota::None).tables(few).unwrap(), TreeOptions::default());
        assert!(with(Quota::AtMost(0)).tables(few).is_err());
        let all = KeyspaceOptions::of(EngineKind::Lsm, Some(few), &few);
        assert!(with(Quota::AtMost(3)).agree_with(all) && KeyspaceOptions::default().agree_with(all));
        assert!(!with(Quota::None).agree_with(all) && !with(Quota::AtMost(4)).agree_with(all));
    }

    #[test]
    fn an_engine_without_tables_takes_no_options_of_tables() {
        assert!(SOME.check_for(EngineKind::Lsm).is_ok() && SOME.check_for(EngineKind::Hash).is_err());
        let engine = KeyspaceOptions { engine: Some(EngineKind::Hash), ..Default::default() };
        assert!(engine.check_for(EngineKind::Hash).is_ok());
    }
}
