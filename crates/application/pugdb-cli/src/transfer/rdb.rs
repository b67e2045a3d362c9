//! `import rdb`: the strings of a Redis dump, database by database into keyspaces. The format is read by `pugdb_wire::rdb`,
//! bounded in memory by the largest key and value whatever a dump announces.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Seek as _};
use std::path::Path;

use pugdb::{EntryOptions, Keyspace, Timestamp, limits};
use pugdb_wire::rdb::{FileError, FileItem, FileLimits, FileReader};

use super::arguments::RdbImport;
use super::loader::Loader;
use super::progress::Progress;
use super::rows::BUFFER_BYTES;
use crate::interrupt::Interrupt;
use crate::outcome::{Exit, Failure};
use crate::output::{self, Format};
use crate::patient::PatientStdin;
use crate::target::{Access, Local};

pub(super) fn import(arguments: &RdbImport, format: Format, interrupt: &Interrupt) -> Result<Exit, Failure> {
    arguments.target.check_local("import")?;
    if arguments.file == Path::new("-") {
        let mut stdin = BufReader::with_capacity(BUFFER_BYTES, PatientStdin::new(interrupt.clone()));
        return import_from(&mut stdin, None, "stdin", arguments, format, interrupt);
    }
    let name = arguments.file.display().to_string();
    let failure = |error: io::Error| Failure::io(format!("read {name}"), &error);
    // Before the database is opened: a wrong path or a damaged dump must not make one.
    let mut file = OpenOptions::new().read(true).open(&arguments.file).map_err(failure)?;
    let metadata = file.metadata().map_err(failure)?;
    if metadata.is_file() && !arguments.unchecked {
        let mut input = BufReader::with_capacity(BUFFER_BYTES, &file);
        check(&mut input, interrupt).map_err(|stop| stop.failure(&name, "nothing was imported"))?;
        file.rewind().map_err(failure)?;
    }
    let mut input = BufReader::with_capacity(BUFFER_BYTES, file);
    let bytes = metadata.is_file().then_some(metadata.len());
    import_from(&mut input, bytes, &name, arguments, format, interrupt)
}

/// Why the walk through a dump ends early.
enum Stop {
    Damaged(FileError, u64),
    Interrupted,
    /// The database refuses.
    Failed(Failure),
}

impl Stop {
    fn failure(self, name: &str, rest: &str) -> Failure {
        match self {
            Self::Damaged(FileError::Io(error), _) => Failure::io(format!("read {name}"), &error),
            Self::Damaged(error @ (FileError::NoDump | FileError::Version(_)), _) => {
                Failure::usage(format!("{name}: {error}"))
            }
            Self::Damaged(error, position) => {
                Failure::new(Exit::Partial, format!("{name}, byte {position}: {error}; {rest}"))
            }
            Self::Interrupted => Failure::new(Exit::Interrupted, format!("stopped on request; {rest}")),
            Self::Failed(failure) => failure,
        }
    }
}

/// Walks through a dump.
fn walk(
    input: &mut dyn BufRead,
    limits: FileLimits,
    interrupt: &Interrupt,
    mut take: impl FnMut(FileItem, u64) -> Result<(), Failure>,
) -> Result<(), Stop> {
    // A signal ends a wait for stdin with an error.
    let stop = |error, position| {
        if interrupt.came() { Stop::Interrupted } else { Stop::Damaged(error, position) }
    };
    let mut file = FileReader::new(input, limits).map_err(|error| stop(error, 0))?;
    loop {
        if interrupt.came() {
            return Err(Stop::Interrupted);
        }
        match file.next_item() {
            Ok(Some(item)) => take(item, file.position()).map_err(Stop::Failed)?,
            Ok(None) => return Ok(()),
            Err(error) => return Err(stop(error, file.position())),
        }
    }
}

/// Reads all of a dump and keeps nothing.
fn check(input: &mut dyn BufRead, interrupt: &Interrupt) -> Result<(), Stop> {
    let limits =
        FileLimits { key_bytes_max: limits::KEY_BYTES_MAX, value_bytes_max: limits::VALUE_BYTES_MAX };
    walk(input, limits, interrupt, |_, _| Ok(()))
}

fn import_from(
    input: &mut dyn BufRead,
    bytes: Option<u64>,
    name: &str,
    arguments: &RdbImport,
    format: Format,
    interrupt: &Interrupt,
) -> Result<Exit, Failure> {
    let local = arguments.target.open_local(Access::Create)?;
    let mut import = Import {
        loader: Loader::new(&local),
        progress: Progress::start("imported", bytes, format),
        local: &local,
        arguments,
        database: 0,
        keyspace: None,
        others: BTreeMap::new(),
    };
    let limits =
        FileLimits { key_bytes_max: limits::KEY_BYTES_MAX, value_bytes_max: import.loader.value_bytes_max() };
    let walked = walk(input, limits, interrupt, |item, position| {
        import.progress.set_position(position);
        import.take(item)
    });
    import.loader.finish()?;
    for (name, count) in &import.others {
        output::note(&format!("skipped: {count} of type {name}"));
    }
    let exit = import.progress.finish()?;
    match walked {
        Ok(()) => Ok(exit),
        Err(stop) => Err(stop.failure(name, "what comes before it was imported")),
    }
}

struct Import<'a> {
    loader: Loader,
    progress: Progress,
    local: &'a Local,
    arguments: &'a RdbImport,
    database: u64,
    /// The keyspace of the database, once a key is put there.
    keyspace: Option<Keyspace>,
    /// How many keys there are of each type that is not kept.
    others: BTreeMap<&'static str, u64>,
}

impl Import<'_> {
    fn take(&mut self, item: FileItem) -> Result<(), Failure> {
        if let FileItem::Database(number) = item {
            (self.database, self.keyspace) = (number, None);
            return Ok(());
        }
        if !self.arguments.database.wants(self.database) {
            return Ok(());
        }
        match item {
            FileItem::Database(_) => {}
            FileItem::Other(name) => {
                *self.others.entry(name).or_default() += 1;
                self.progress.leave_out_unlisted();
            }
            FileItem::KeyTooLong { bytes } => {
                let reason =
                    format!("the key has {bytes} bytes; at most {} are allowed", limits::KEY_BYTES_MAX);
                self.progress.leave_out_place(&format!("a key of database {}", self.database), &reason);
            }
            FileItem::ValueTooLong { .. } => {
                let reason = self.loader.too_large();
                self.progress.leave_out_place(&format!("a key of database {}", self.database), &reason);
            }
            FileItem::String { key, value, expires_at_ms } => self.put(&key, &value, expires_at_ms)?,
        }
        Ok(())
    }

    fn put(&mut self, key: &[u8], value: &[u8], expires_at_ms: Option<u64>) -> Result<(), Failure> {
        let expires_at = expires_at_ms.map(Timestamp);
        if expires_at.is_some_and(|at| at <= self.local.db.now()) {
            self.progress.skip_expired();
            return Ok(());
        }
        if let Some(reason) = self.loader.refuses(key.len(), value.len()) {
            self.progress.leave_out(key, &reason);
            return Ok(());
        }
        let keyspace = if let Some(keyspace) = &self.keyspace {
            keyspace
        } else {
            let name = format!("{}{}", self.arguments.keyspace_prefix, self.database);
            self.keyspace.insert(self.local.for_writing_to(&name)?)
        };
        let expires_at = expires_at.or(Some(Timestamp::NEVER));
        self.loader.put(keyspace, key, value, EntryOptions { expires_at, ..Default::default() })?;
        self.progress.add(key.len() + value.len());
        Ok(())
    }
}
