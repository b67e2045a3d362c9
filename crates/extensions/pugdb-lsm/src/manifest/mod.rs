//! The manifest: which keyspaces and tables there are, how far the log is flushed, trimmed and durable.
//!
//! A file of edits, each synced before anything relies on it. Every open and every rollover starts a new file with a
//! snapshot of the state, and the small file `CURRENT` names the one that counts. Drawn in `docs/format/manifest.md`.

mod edit;
mod inspect;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use pugdb_core::coding::index;
use pugdb_core::env::{Access, File, FileSystem};
use pugdb_core::seam::{Cipher, FileContext, FileKind};
use pugdb_core::{DatabaseId, Error, ErrorKind, FileId, KeyspaceId, Result};
use xxhash_rust::xxh3::xxh3_64;

pub(crate) use inspect::inspect;

pub use edit::{Edit, TableEntry};
pub use state::{KeyspaceState, State};

use crate::file::{Context, FileHeader};
use crate::frame::{Frame, FrameEncoder, FrameReader, Step, first_offset};

/// The file that names the manifest.
pub const CURRENT: &str = "CURRENT";
const CURRENT_NEW: &str = "CURRENT.new";
/// `CURRENT` is one line, of which this version writes no more than that.
const CURRENT_BYTES_MAX: usize = 256;
/// What a newer version may write; anything longer is damage.
const CURRENT_BYTES_READ: usize = 4 << 10;
const CURRENT_WORD: &str = "pugdb";
const CURRENT_VERSION: &str = "1";
/// A manifest grows by this much at a time.
const ALLOCATE_BYTES: u64 = 64 << 10;
/// Past this size, or four times its first snapshot, a manifest is begun anew.
const ROLL_BYTES_MIN: u64 = 1 << 20;

/// The open manifest. One writer; its owner guards the order of edits.
pub struct Manifest {
    context: Context,
    state: State,
    number: u64,
    id: FileId,
    file: Arc<dyn File>,
    encoder: FrameEncoder,
    end: u64,
    allocated: u64,
    snapshot_bytes: u64,
    /// The first write or sync that failed. Nothing is written after it.
    failure: Option<Error>,
}

/// The line in `CURRENT`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pointer {
    number: u64,
    file: FileId,
    /// The manifest was durable up to here when the pointer was written.
    durable: u64,
}

/// Stands for the tag where nothing is sealed.
const NO_TAG: &str = "-";

impl Pointer {
    fn encode(&self, cipher: &dyn Cipher) -> Result<Vec<u8>> {
        let statement =
            format!("{CURRENT_WORD} {CURRENT_VERSION} {} {} {}", self.number, self.file, self.durable);
        let tag = cipher.vouch(statement.as_bytes())?;
        let mut line = statement + " ";
        if tag.is_empty() {
            line.push_str(NO_TAG);
        }
        let digits = tag.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(u32::from);
        line.extend(digits.filter_map(|digit| char::from_digit(digit, 16)));
        Ok(format!("{line} {:016x}\n", xxh3_64(line.as_bytes())).into_bytes())
    }

    /// # Errors
    /// `Corrupt` when it is damaged, `Unsupported` when a newer version wrote it, what the cipher says of the tag.
    fn decode(bytes: &[u8], cipher: &dyn Cipher) -> Result<Self> {
        let damaged =
            || Error::corrupt("CURRENT is damaged; restore it from a backup, or run `pugdb verify`");
        let line = proven(bytes).ok_or_else(damaged)?;
        // Before anything else is looked at: a newer version may have other words behind it.
        match line.strip_prefix(CURRENT_WORD).and_then(|line| line.strip_prefix(' ')?.split_once(' ')) {
            None => return Err(damaged()),
            Some((CURRENT_VERSION, _)) => {}
            Some(_) => return Err(Error::newer("CURRENT of another version")),
        }
        let (pointer, statement, tag) = Self::parse(line).ok_or_else(damaged)?;
        cipher.check(statement.as_bytes(), &tag).map_err(|error| error.at(CURRENT))?;
        Ok(pointer)
    }

    /// The pointer, what is vouched for, and the tag.
    fn parse(line: &str) -> Option<(Self, &str, Vec<u8>)> {
        let (statement, digits) = line.rsplit_once(' ')?;
        let words: Vec<&str> = statement.split(' ').collect();
        let [_, _, number, file, durable] = words[..] else { return None };
        let pointer =
            Self { number: number.parse().ok()?, file: FileId::parse(file)?, durable: durable.parse().ok()? };
        let tag = if digits == NO_TAG { Vec::new() } else { bytes_of(digits)? };
        Some((pointer, statement, tag))
    }
}

/// The line of `CURRENT` without its checksum, which is right. That is so in every version: one line, the first word, the
/// version, and at the end the checksum of all before it.
fn proven(bytes: &[u8]) -> Option<&str> {
    let (line, checksum) = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?.rsplit_once(' ')?;
    (checksum == format!("{:016x}", xxh3_64(line.as_bytes()))).then_some(line)
}

/// The bytes that hexadecimal digits stand for; there is one at least.
fn bytes_of(digits: &str) -> Option<Vec<u8>> {
    if digits.is_empty()
        || !digits.len().is_multiple_of(2)
        || !digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    {
        return None;
    }
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()).collect()
}

fn file_name(number: u64) -> String {
    format!("manifest-{number:010}")
}

/// Reads a name that [`file_name`] made.
pub fn parse_name(name: &str) -> Option<u64> {
    let number = name.strip_prefix("manifest-")?.parse().ok()?;
    // No other spelling: two files would have one place.
    (file_name(number) == name).then_some(number)
}

/// A manifest as it lies on disk.
pub struct Recovered {
    /// What it says.
    pub state: State,
    /// Its number.
    pub number: u64,
    /// Bytes of a torn edit at its end that were given up.
    pub cut_bytes: u64,
}

impl Recovered {
    /// What to say with an error that may follow from edits that were given up; `None` when there were none.
    pub fn loss(&self) -> Option<String> {
        let name = file_name(self.number);
        (self.cut_bytes > 0)
            .then(|| format!("{name} had damage in its last {} bytes, and without them", self.cut_bytes))
    }
}

/// True when manifest `number` has been named by a CURRENT: it is more than a creation that was cut off leaves behind.
///
/// # Errors
/// What the disk says, and the cipher when its key is another one.
pub fn was_current(context: &Context, number: u64) -> Result<bool> {
    if number > 1 {
        return Ok(true);
    }
    let name = file_name(number);
    let doing = |error| Error::io(format!("open {name}"), error);
    let file = context.env.fs.open(&context.dir.join(&name), Access::Read).map_err(doing)?;
    let at = |error: Error| error.at(&name);
    // Only a header that does not prove itself can be what a creation left behind.
    if !FileHeader::is_whole(&*file).map_err(at)? {
        return Ok(false);
    }
    let opened = FileHeader::read(&*file, FileKind::Manifest, None, &*context.cipher).map_err(at)?;
    let mut reader = FrameReader::new(file, opened.header.context.file, opened.cipher, u64::MAX)?;
    // The first frame is the creation's; a second one was written by a database that was in use.
    match reader.step(first_offset(opened.bytes))? {
        Step::Frame(first) => Ok(matches!(reader.step(first.next)?, Step::Frame(_))),
        Step::Blank | Step::Damaged(_) => Ok(false),
    }
}

/// True when the directory holds a database.
pub fn exists(fs: &dyn FileSystem, dir: &std::path::Path) -> Result<bool> {
    match fs.open(&dir.join(CURRENT), Access::Read) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("open CURRENT", error)),
    }
}

/// Reads the manifest that `CURRENT` names. `context.database` is not looked at: the manifest says which it is.
///
/// # Errors
/// `Corrupt` when an edit is missing or damaged that something states to be durable.
pub fn recover(context: &Context) -> Result<Recovered> {
    let pointer = read_pointer(context)?;
    let name = file_name(pointer.number);
    read(context, &pointer, &name).map_err(|error| {
        if error.kind() == ErrorKind::NotFound {
            return Error::corrupt(format!(
                "{name} is missing, but CURRENT names it; restore it from a backup"
            ));
        }
        error.at(&name)
    })
}

fn read_pointer(context: &Context) -> Result<Pointer> {
    let path = context.dir.join(CURRENT);
    let doing = |error| Error::io("read CURRENT", error);
    let file = context.env.fs.open(&path, Access::Read).map_err(doing)?;
    let mut bytes = vec![0; CURRENT_BYTES_READ];
    let length = file.read_at(&mut bytes, 0).map_err(doing)?;
    Pointer::decode(&bytes[..length], &*context.cipher)
}

fn read(context: &Context, pointer: &Pointer, name: &str) -> Result<Recovered> {
    let path = context.dir.join(name);
    let file = context.env.fs.open(&path, Access::Read).map_err(|error| Error::io("open it", error))?;
    let opened = FileHeader::read(&*file, FileKind::Manifest, None, &*context.cipher)?;
    if opened.header.context.file != pointer.file || opened.header.extra != pointer.number.to_le_bytes() {
        return Err(Error::corrupt("it is not the file that CURRENT names"));
    }
    let mut state = State::new(opened.header.context.database);
    let mut reader = FrameReader::new(file, pointer.file, opened.cipher, u64::MAX)?;
    let mut offset = first_offset(opened.bytes);
    let mut erased = BTreeSet::new();
    let reason = loop {
        let mut frame = match reader.step(offset)? {
            Step::Frame(frame) => frame,
            Step::Blank => break "an edit is missing",
            Step::Damaged(reason) => break reason,
        };
        edits(&reader, &mut frame, &mut erased)?.iter().try_for_each(|edit| state.apply(edit))?;
        offset = frame.next;
    };
    // Edits are synced one by one, so a header found behind this place states everything before it.
    let remains = reader.search(offset)?;
    let stated = remains.stated_durable.map_or(0, |(at, lag)| at.saturating_sub(lag)).max(pointer.durable);
    if stated > offset {
        return Err(Error::corrupt(format!(
            "damaged at byte {offset}: {reason}; edits behind it were durable; restore it from a backup"
        )));
    }
    state.check_partitions()?;
    Ok(Recovered { state, number: pointer.number, cut_bytes: remains.used_until - offset })
}

/// What a frame says. Keyspaces that were erased are noted: of them nothing is left.
///
/// # Errors
/// `Corrupt` when it holds no edits; what keeps a section closed that was not erased.
fn edits(reader: &FrameReader, frame: &mut Frame, erased: &mut BTreeSet<KeyspaceId>) -> Result<Vec<Edit>> {
    let keyspaces: Vec<_> = frame.keyspaces().collect();
    let mut sections = Vec::with_capacity(keyspaces.len());
    for (index, keyspace) in keyspaces.into_iter().enumerate() {
        match reader.open_section(frame, index) {
            Ok(bytes) => sections.push((keyspace, bytes)),
            Err(error) if error.kind() == ErrorKind::Erased => drop(erased.insert(keyspace)),
            Err(error) => return Err(error),
        }
    }
    edit::decode(&frame.head, &sections, erased)
}

impl Manifest {
    /// Begins a new manifest file with `state` and makes it the current one.
    ///
    /// # Errors
    /// What the disk says. Until the very last step the former manifest counts.
    pub fn begin(context: Context, state: State, number: u64) -> Result<Self> {
        let context = Context { database: state.database, ..context };
        let id = FileId::random(&*context.env.random);
        let name = file_name(number);
        let path = context.dir.join(&name);
        let doing = |error| Error::io(format!("write {name}"), error);
        let file_context =
            FileContext { database: context.database, file: id, kind: FileKind::Manifest, keyspace: None };
        let (cipher_header, cipher) = context.cipher.create(&file_context)?;
        let header =
            FileHeader { context: file_context, extra: number.to_le_bytes().to_vec(), cipher: cipher_header };
        let header = header.encode(&*cipher)?;
        let start = first_offset(header.len() as u64);
        let mut encoder = FrameEncoder::new(id, cipher);
        let (head, sections) = edit::encode(&state.snapshot());
        let frame = encoder.encode(start, 0, &head, &edit::sections(&sections))?;
        let end = start + frame.len() as u64;
        let allocated = end + ALLOCATE_BYTES;

        // A file of this number can be left from an attempt that failed; nothing names it.
        let _ = context.env.fs.remove(&path);
        let file = context.env.fs.create(&path).map_err(doing)?;
        file.allocate(allocated)
            .and_then(|()| file.write_at(&header, 0))
            .and_then(|()| file.write_at(frame, start))
            .and_then(|()| file.sync_data())
            .map_err(doing)
            .and_then(|()| point_to(&context, &Pointer { number, file: id, durable: end }))?;
        let snapshot_bytes = end;
        Ok(Self { context, state, number, id, file, encoder, end, allocated, snapshot_bytes, failure: None })
    }

    /// What it says.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Makes `CURRENT` state that everything up to here is durable: nothing comes behind the last edit that could, and
    /// an end that is damaged or missing must not pass for a torn tail.
    ///
    /// # Errors
    /// What the disk says; the edits are recorded all the same.
    pub fn seal(&self) -> Result<()> {
        point_to(&self.context, &Pointer { number: self.number, file: self.id, durable: self.end })
    }

    /// The failure that ended all writing, if there was one.
    pub fn failure(&self) -> Option<&Error> {
        self.failure.as_ref()
    }

    /// Records edits, all or none, and makes them durable.
    ///
    /// # Errors
    /// `Unavailable` when the disk has no room (nothing changed; try again later), or when a write or sync failed
    /// before or now (nothing will be written until the database is opened again).
    pub fn commit(&mut self, edits: &[Edit]) -> Result<()> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let undo = self.state.apply_all(edits)?;
        let is_long = self.end > ROLL_BYTES_MIN.max(4 * self.snapshot_bytes);
        let written = if is_long { self.roll() } else { self.append(edits) };
        written.inspect_err(|_| self.state.take_back(undo))
    }

    fn append(&mut self, edits: &[Edit]) -> Result<()> {
        let (head, sections) = edit::encode(edits);
        let sections = edit::sections(&sections);
        let need = self.end + self.encoder.size_max(&head, &sections);
        if need > self.allocated {
            let allocated = need + ALLOCATE_BYTES;
            self.file.allocate(allocated).map_err(|error| Error::io("extend the manifest", error))?;
            self.allocated = allocated;
        }
        let end = self.end;
        let written = self.encoder.encode(end, 0, &head, &sections).and_then(|frame| {
            let io = self.file.write_at(frame, end).and_then(|()| self.file.sync_data());
            io.map_err(|error| Error::io("write the manifest", error))?;
            Ok(frame.len() as u64)
        });
        self.end += written.map_err(|error| self.fail(&error))?;
        Ok(())
    }

    /// Begins a new file, which holds all edits so far.
    fn roll(&mut self) -> Result<()> {
        match Self::begin(self.context.clone(), self.state.clone(), self.number + 1) {
            Ok(next) => {
                let old = std::mem::replace(self, next);
                let _ = self.context.env.fs.remove(&old.context.dir.join(file_name(old.number)));
                Ok(())
            }
            // Only a full disk leaves it certain that CURRENT still names the old file: it is met first.
            Err(error) if error.is_disk_full() => Err(error),
            Err(error) => Err(self.fail(&error)),
        }
    }

    fn fail(&mut self, error: &Error) -> Error {
        let told = Error::unavailable(format!(
            "{}; reads go on, writes are refused until the database is opened again",
            error.cause()
        ));
        self.failure.get_or_insert(told).clone()
    }

    /// This manifest's number: files with other numbers are left over.
    pub fn number(&self) -> u64 {
        self.number
    }
}

/// Makes `CURRENT` name another manifest, in one step that is either done or not.
fn point_to(context: &Context, pointer: &Pointer) -> Result<()> {
    let (new, current) = (context.dir.join(CURRENT_NEW), context.dir.join(CURRENT));
    let fs = &context.env.fs;
    let _ = fs.remove(&new);
    let line = pointer.encode(&*context.cipher)?;
    debug_assert!(line.len() <= CURRENT_BYTES_MAX, "{}", index(line.len() as u64));
    let replace = || {
        let file = fs.create(&new)?;
        file.write_at(&line, 0)?;
        file.sync_data()?;
        // First the names of the new files, then the rename: CURRENT must never name a file that is not there.
        fs.sync_dir(&context.dir)
    };
    let doing = |error| Error::io("make CURRENT name the new manifest", error);
    replace().map_err(doing)?;
    // From here on which manifest counts is unknown after an error, a full disk included.
    let renamed = fs.rename(&new, &current).and_then(|()| fs.sync_dir(&context.dir));
    renamed.map_err(|error| Error::unavailable(doing(error).cause().to_owned()))
}

/// A new database's identity: its keys', if it has any.
pub fn new_database(context: &Context) -> DatabaseId {
    context.cipher.database().unwrap_or_else(|| DatabaseId::random(&*context.env.random))
}
