//! One line of the audit log: who did what, to what, and what came of it. No value and no key is ever in it.

use std::fmt;
use std::sync::Arc;

use pugdb_core::coding::{Reader, put_bytes, put_varint};
use pugdb_core::{Error, ErrorKind, Result, Timestamp};

/// The layout of a record's bytes.
const LAYOUT: u8 = 1;
/// A name of an actor, or of where he comes from, is cut off here.
pub const ACTOR_BYTES_MAX: usize = 256;
/// Objects of one record; an event with more becomes several records.
pub const OBJECTS_MAX: usize = 1024;
/// Each kind of count stands in a record once.
const COUNTS_MAX: usize = Count::ALL.len();
const OBJECT_BYTES: usize = 1 + 32;
const VARINT_BYTES_MAX: usize = 10;
/// No record is longer.
pub const RECORD_BYTES_MAX: usize = 2
    + 5 * VARINT_BYTES_MAX
    + 2 * (VARINT_BYTES_MAX + ACTOR_BYTES_MAX)
    + VARINT_BYTES_MAX
    + OBJECTS_MAX * OBJECT_BYTES
    + VARINT_BYTES_MAX
    + COUNTS_MAX * (1 + VARINT_BYTES_MAX);

/// Names with numbers. The numbers are part of the disk format.
macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident { $($(#[$item_doc:meta])* $item:ident = $number:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$item_doc])* $item = $number,)* }

        impl $name {
            /// All there are.
            pub const ALL: [Self; [$($number),*].len()] = [$(Self::$item),*];

            /// Reads its number.
            pub fn from_number(number: u8) -> Option<Self> {
                Self::ALL.into_iter().find(|item| *item as u8 == number)
            }

            /// Its name, as it is shown.
            pub fn name(self) -> &'static str {
                match self { $(Self::$item => $text,)* }
            }

            /// Reads its name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|item| item.name() == name)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

numbered! {
    /// What was done.
    Action {
        /// The database was opened for writing.
        Open = 1, "open";
        /// It was closed in good order.
        Close = 2, "close";
        /// A new root key.
        KeyRotate = 3, "key.rotate";
        /// New keys for new files.
        KeyRenew = 4, "key.renew";
        /// Keys of subjects were destroyed.
        EraseSubjects = 5, "erase.subjects";
        /// The keys of a keyspace were destroyed.
        EraseKeyspace = 6, "erase.keyspace";
        /// A legal hold was put on something.
        Hold = 7, "hold";
        /// It was taken away.
        Release = 8, "release";
        /// A keyspace was made.
        KeyspaceCreate = 9, "keyspace.create";
        /// A keyspace was ended.
        KeyspaceDrop = 10, "keyspace.drop";
        /// All that a keyspace held was removed.
        KeyspaceTruncate = 11, "keyspace.truncate";
        /// Two keyspaces exchanged their names.
        KeyspaceSwap = 12, "keyspace.swap";
        /// How a keyspace is kept was changed.
        KeyspaceAlter = 13, "keyspace.alter";
        /// Partitions were split or merged.
        Repartition = 14, "keyspace.repartition";
        /// A copy of the database was made.
        Checkpoint = 15, "checkpoint";
        /// All files were read and checked.
        Verify = 16, "verify";
        /// Data was written out of the database.
        Export = 17, "export";
        /// Data was taken in.
        Import = 18, "import";
        /// An entry was read (by rule).
        Read = 19, "read";
        /// An entry was changed (by rule).
        Write = 20, "write";
        /// Somebody said who they are.
        Auth = 21, "auth";
        /// Users and their rights.
        Rights = 22, "rights";
        /// Another administrative act.
        Admin = 23, "admin";
        /// A setting was changed.
        Config = 24, "config";
        /// Everything in a database of the server was removed.
        Flush = 25, "flush";
        /// The server was told to end.
        Shutdown = 26, "shutdown";
        /// The oldest segment of the audit log was removed: how far, and what was its root and its last link.
        Trim = 27, "audit.trim";
        /// So many records could not be written.
        Missing = 28, "audit.missing";
        /// The audit log was found damaged when it was opened.
        Damage = 29, "audit.damage";
    }
}

impl Action {
    /// True when its record is durable before anybody is told that it was done. Reads and writes by rule are, a second later at the latest.
    pub fn is_synced(self) -> bool {
        !matches!(self, Self::Read | Self::Write)
    }
}

numbered! {
    /// What came of it.
    Outcome {
        /// It is about to be done. Another record with this one's number says how it ended; if there is none, nobody knows.
        Begun = 1, "begun";
        /// It was done.
        Done = 2, "done";
        /// It was not allowed, or made no sense.
        Refused = 3, "refused";
        /// It could not be done, or not in full.
        Failed = 4, "failed";
    }
}

numbered! {
    /// What a digest stands for.
    ObjectKind {
        /// The name of a keyspace.
        Keyspace = 1, "keyspace";
        /// A key.
        Key = 2, "key";
        /// A subject.
        Subject = 3, "subject";
        /// A user.
        User = 4, "user";
        /// A path.
        Path = 5, "path";
        /// Anything else that has a name.
        Name = 6, "name";
        /// The root of the audit log's own tree: no digest of a name.
        Root = 7, "root";
        /// A link of its chain: no digest of a name.
        Link = 8, "link";
    }
}

numbered! {
    /// What a number in a record counts.
    Count {
        /// The first record that it is about: of an end, the one that began it.
        Began = 1, "began";
        /// Through this record.
        Through = 2, "through";
        /// Log records replayed.
        Replayed = 3, "replayed";
        /// Bytes of the log that were given up.
        CutBytes = 4, "cut_bytes";
        /// Entries.
        Entries = 5, "entries";
        /// Bytes.
        Bytes = 6, "bytes";
        /// Problems that were found.
        Problems = 7, "problems";
        /// Records that are missing.
        Missing = 8, "missing";
        /// The number of a keyspace.
        Keyspace = 9, "keyspace_id";
        /// The generation of the keyring.
        Keyring = 10, "keyring";
        /// 1 when the last end was in good order, or the database was just made.
        Clean = 11, "clean";
        /// Objects of the event, where it has more than one record.
        Objects = 12, "objects";
        /// Partitions.
        Partitions = 13, "partitions";
        /// Keys.
        Keys = 14, "keys";
    }
}

/// Who acts, and from where.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Actor {
    name: Arc<str>,
    source: Arc<str>,
}

impl Actor {
    /// A user's name and, say, the address of a client or the name of a program. Both are cut off at 256 bytes.
    pub fn new(name: &str, source: &str) -> Self {
        Self { name: shortened(name).into(), source: shortened(source).into() }
    }

    /// Who it is.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// From where.
    pub fn source(&self) -> &str {
        &self.source
    }
}

fn shortened(text: &str) -> &str {
    let end = (0..=ACTOR_BYTES_MAX.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}

/// Something that was acted on: a digest of its name, keyed with the keyring. Who has that can ask whether a name is meant, and nobody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Object {
    /// What it is.
    pub kind: ObjectKind,
    /// What stands for its name.
    pub digest: [u8; 32],
}

/// What is to be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What is done.
    pub action: Action,
    /// What comes of it.
    pub outcome: Outcome,
    /// Why it was refused or failed.
    pub reason: Option<ErrorKind>,
    /// What it is done to.
    pub objects: Vec<Object>,
    /// Numbers that belong to it.
    pub counts: Vec<(Count, u64)>,
}

impl Event {
    /// Something that was done.
    pub fn done(action: Action) -> Self {
        Self { action, outcome: Outcome::Done, reason: None, objects: Vec::new(), counts: Vec::new() }
    }

    /// Something that is about to be done.
    pub fn begun(action: Action) -> Self {
        Self { outcome: Outcome::Begun, ..Self::done(action) }
    }

    /// The same with the outcome that an error is.
    #[must_use]
    pub fn failed(self, kind: ErrorKind) -> Self {
        let outcome = match kind {
            ErrorKind::Denied | ErrorKind::Invalid | ErrorKind::NotFound | ErrorKind::Conflict => {
                Outcome::Refused
            }
            _ => Outcome::Failed,
        };
        Self { outcome, reason: Some(kind), ..self }
    }

    /// The same, and what it is done to.
    #[must_use]
    pub fn on(mut self, object: Object) -> Self {
        self.objects.push(object);
        self
    }

    /// The same with a number.
    #[must_use]
    pub fn count(mut self, count: Count, number: u64) -> Self {
        self.counts.retain(|(other, _)| *other != count);
        self.counts.push((count, number));
        self
    }
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// From 1, without a gap.
    pub number: u64,
    /// When it was written.
    pub at: Timestamp,
    /// Who acted.
    pub actor: Actor,
    /// What was done.
    pub event: Event,
}

/// The kinds of errors, by their numbers in a record.
const REASONS: [ErrorKind; 10] = [
    ErrorKind::Invalid,
    ErrorKind::NotFound,
    ErrorKind::Conflict,
    ErrorKind::Unavailable,
    ErrorKind::Denied,
    ErrorKind::Corrupt,
    ErrorKind::Erased,
    ErrorKind::Closed,
    ErrorKind::Internal,
    ErrorKind::Unsupported,
];

impl Record {
    /// Its bytes: the same each time, for they are hashed.
    pub fn encode(&self) -> Vec<u8> {
        let Self { number, at, actor, event } = self;
        let mut out = Vec::with_capacity(64 + event.objects.len() * OBJECT_BYTES);
        out.push(LAYOUT);
        put_varint(&mut out, *number);
        put_varint(&mut out, at.0);
        out.extend_from_slice(&[event.action as u8, event.outcome as u8]);
        let reason = event.reason.and_then(|kind| REASONS.iter().position(|reason| *reason == kind));
        put_varint(&mut out, reason.map_or(0, |place| place as u64 + 1));
        put_bytes(&mut out, actor.name.as_bytes());
        put_bytes(&mut out, actor.source.as_bytes());
        put_varint(&mut out, event.objects.len() as u64);
        for object in &event.objects {
            out.push(object.kind as u8);
            out.extend_from_slice(&object.digest);
        }
        let counts = &event.counts[..event.counts.len().min(COUNTS_MAX)];
        put_varint(&mut out, counts.len() as u64);
        for (count, value) in counts {
            out.push(*count as u8);
            put_varint(&mut out, *value);
        }
        out
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// `Corrupt` when it is nothing that `encode` writes.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let damaged = || Error::corrupt("a record of the audit log is damaged");
        let mut reader = Reader::new(bytes);
        if bytes.len() > RECORD_BYTES_MAX || reader.u8()? != LAYOUT {
            return Err(damaged());
        }
        let (number, at) = (reader.varint()?, Timestamp(reader.varint()?));
        let action = Action::from_number(reader.u8()?).ok_or_else(damaged)?;
        let outcome = Outcome::from_number(reader.u8()?).ok_or_else(damaged)?;
        let reason = match reader.length()? {
            0 => None,
            place => Some(*REASONS.get(place - 1).ok_or_else(damaged)?),
        };
        let mut name = || -> Result<String> {
            let name = reader.bytes()?;
            if name.len() > ACTOR_BYTES_MAX {
                return Err(damaged());
            }
            String::from_utf8(name.to_vec()).map_err(|_| damaged())
        };
        let actor = Actor { name: name()?.into(), source: name()?.into() };
        let mut objects = Vec::new();
        for _ in 0..bounded(&mut reader, OBJECTS_MAX)? {
            let kind = ObjectKind::from_number(reader.u8()?).ok_or_else(damaged)?;
            objects.push(Object { kind, digest: reader.array()? });
        }
        let mut counts = Vec::new();
        for _ in 0..bounded(&mut reader, COUNTS_MAX)? {
            let count = Count::from_number(reader.u8()?).ok_or_else(damaged)?;
            counts.push((count, reader.varint()?));
        }
        let event = Event { action, outcome, reason, objects, counts };
        let record = Self { number, at, actor, event };
        // A number can be written in several ways; only one of them was hashed.
        if reader.is_empty() && record.encode() == bytes { Ok(record) } else { Err(damaged()) }
    }

    /// The number of a kind that it has.
    pub fn count(&self, count: Count) -> Option<u64> {
        self.event.counts.iter().find(|(other, _)| *other == count).map(|(_, value)| *value)
    }

    /// The digest of a kind that it has first.
    pub fn object(&self, kind: ObjectKind) -> Option<[u8; 32]> {
        self.event.objects.iter().find(|object| object.kind == kind).map(|object| object.digest)
    }
}

fn bounded(reader: &mut Reader<'_>, most: usize) -> Result<usize> {
    let count = reader.length()?;
    if count > most {
        return Err(Error::corrupt("a record of the audit log is damaged"));
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::hex;

    fn record() -> Record {
        let event = Event::begun(Action::EraseSubjects)
            .on(Object { kind: ObjectKind::Subject, digest: [7; 32] })
            .count(Count::Objects, 300)
            .failed(ErrorKind::Denied);
        Record {
            number: 130,
            at: Timestamp(1_764_250_000_123),
            actor: Actor::new("ada", "127.0.0.1:4711"),
            event,
        }
    }

    #[test]
    fn the_bytes_of_a_record_are_the_golden_ones() {
        let digest = "07".repeat(32);
        let golden = format!(
            "01\
             8201\
             fbb5faabac33\
             05\
             03\
             05\
             03616461\
             0e3132372e302e302e313a34373131\
             01\
             03{digest}\
             01\
             0cac02"
        );
        assert_eq!(hex(&record().encode()), golden);
        assert_eq!(Record::decode(&record().encode()).unwrap(), record());
    }

    #[test]
    fn what_is_no_record_is_corrupt_and_takes_no_memory() {
        let bytes = record().encode();
        for end in 0..bytes.len() {
            assert_eq!(Record::decode(&bytes[..end]).unwrap_err().kind(), ErrorKind::Corrupt, "{end}");
        }
        assert!(Record::decode(&[&bytes[..], &[0]].concat()).is_err());
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                // What can still be read is another record: the chain's matter.
                assert!(Record::decode(&changed).map_or(true, |read| read != record()), "{at}");
            }
        }
        // A count that promises more than there is.
        let many = [&bytes[..bytes.len() - 4], &[0xff, 0xff, 0xff, 0x7f]].concat();
        assert!(Record::decode(&many).is_err());
        // The same number in another form.
        let mut longer = bytes.clone();
        longer.splice(1..3, [0x82, 0x81, 0x00]);
        assert!(Record::decode(&longer).is_err());
    }

    #[test]
    fn a_record_at_its_limits_is_within_the_largest() {
        let mut event = Event::done(Action::Damage);
        event.objects = vec![Object { kind: ObjectKind::Link, digest: [255; 32] }; OBJECTS_MAX];
        event.counts = Count::ALL.map(|count| (count, u64::MAX)).to_vec();
        let long = "é".repeat(ACTOR_BYTES_MAX);
        let record =
            Record { number: u64::MAX, at: Timestamp(u64::MAX), actor: Actor::new(&long, &long), event };
        let bytes = record.encode();
        assert!(bytes.len() <= RECORD_BYTES_MAX);
        assert_eq!(Record::decode(&bytes).unwrap(), record);
        assert_eq!(record.actor.name().len(), ACTOR_BYTES_MAX);
    }

    #[test]
    fn names_and_numbers_are_read_as_they_are_written() {
        for action in Action::ALL {
            assert_eq!(Action::from_name(action.name()), Some(action));
            assert_eq!(Action::from_number(action as u8), Some(action));
        }
        assert_eq!(Action::from_number(0), None);
        assert_eq!(Action::from_name("nothing"), None);
    }
}
