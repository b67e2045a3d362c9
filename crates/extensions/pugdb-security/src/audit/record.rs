//! One line of the audit log: who did what, to what, and what came of it. No value and no key is ever in it.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;

use pugdb_core::coding::{Reader, put_bytes, put_varint};
use pugdb_core::{Error, ErrorKind, Result, Timestamp};

use crate::newer;

/// The layout of a record's bytes.
const LAYOUT: u8 = 1;
/// A name of an actor, or of where he comes from, is cut off here.
pub const ACTOR_BYTES_MAX: usize = 256;
/// Objects of one record; an event with more becomes several records.
pub const OBJECTS_MAX: usize = 1024;
/// Counts of one record. A number of its own, and not how many kinds there are: the size of the largest record must not change when one is added.
const COUNTS_MAX: usize = 64;
const _: () = assert!(Count::ALL.len() <= COUNTS_MAX, "each kind of count can stand in a record once");
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

/// A number that this version has no name for: a newer one wrote it. It is hashed, proved and shown as what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnknownNumber(u8);

/// Names with numbers. Both are part of the disk format: the numbers of records, the names of what proofs say. What is there stays as it is; only
/// new ones come.
macro_rules! numbered {
    (
        $(#[$doc:meta])* $name:ident, $what:literal
        { $($(#[$item_doc:meta])* $item:ident = $number:literal, $text:literal;)* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$item_doc])* $item,)*
            /// One that a newer version wrote.
            Unknown(UnknownNumber),
        }

        impl $name {
            /// All that have a name.
            pub const ALL: [Self; [$($number),*].len()] = [$(Self::$item),*];

            /// Reads its number. There is none that is not read.
            pub fn from_number(number: u8) -> Self {
                match number {
                    $($number => Self::$item,)*
                    _ => Self::Unknown(UnknownNumber(number)),
                }
            }

            /// Its number in a record.
            pub fn number(self) -> u8 {
                match self {
                    $(Self::$item => $number,)*
                    Self::Unknown(UnknownNumber(number)) => number,
                }
            }

            /// Its name, as it is shown; without one, what it is and its number.
            pub fn name(self) -> Cow<'static, str> {
                match self {
                    $(Self::$item => $text.into(),)*
                    Self::Unknown(UnknownNumber(number)) => format!(concat!($what, " {}"), number).into(),
                }
            }

            /// Reads its name.
            pub fn from_name(name: &str) -> Option<Self> {
                let numbers = 0..=u8::MAX;
                numbers.map(Self::from_number).find(|item| item.name() == name)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.name())
            }
        }
    };
}

numbered! {
    /// What was done.
    Action, "action" {
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
    Outcome, "outcome" {
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
    ObjectKind, "kind" {
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
    Count, "count" {
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

/// Why something was refused or failed: a kind of error, or one of a newer version, of which only the number is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason(NonZeroU64);

impl Reason {
    /// Its number in a record.
    pub fn number(self) -> u64 {
        self.0.get()
    }

    /// The kind of error, if this version has it.
    pub fn kind(self) -> Option<ErrorKind> {
        usize::try_from(self.number() - 1).ok().and_then(|place| REASONS.get(place)).copied()
    }
}

impl From<ErrorKind> for Reason {
    fn from(kind: ErrorKind) -> Self {
        let others = [NonZeroU64::MIN; REASONS.len()];
        let numbers = others.into_iter().zip(0..).map(|(one, place)| one.saturating_add(place));
        let found = REASONS.into_iter().zip(numbers).find(|(reason, _)| *reason == kind);
        Self(found.expect("each kind of error has a place in the list: a test asks for all").1)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            Some(kind) => write!(f, "{kind}"),
            None => write!(f, "reason {}", self.number()),
        }
    }
}

/// What is to be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What is done.
    pub action: Action,
    /// What comes of it.
    pub outcome: Outcome,
    /// Why it was refused or failed.
    pub reason: Option<Reason>,
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
        Self { outcome, reason: Some(kind.into()), ..self }
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
        out.extend_from_slice(&[event.action.number(), event.outcome.number()]);
        put_varint(&mut out, event.reason.map_or(0, Reason::number));
        put_bytes(&mut out, actor.name.as_bytes());
        put_bytes(&mut out, actor.source.as_bytes());
        put_varint(&mut out, event.objects.len() as u64);
        for object in &event.objects {
            out.push(object.kind.number());
            out.extend_from_slice(&object.digest);
        }
        let counts = &event.counts[..event.counts.len().min(COUNTS_MAX)];
        put_varint(&mut out, counts.len() as u64);
        for (count, value) in counts {
            out.push(count.number());
            put_varint(&mut out, *value);
        }
        out
    }

    /// Reads what [`encode`](Self::encode) wrote, also that of a newer version: of what it has no name for there is the number.
    ///
    /// # Errors
    /// `Unsupported` when it has another layout, `Corrupt` when it is nothing that `encode` writes.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let damaged = || Error::corrupt("a record of the audit log is damaged");
        let mut reader = Reader::new(bytes);
        if reader.u8()? != LAYOUT {
            return Err(newer("a record of the audit log"));
        }
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(damaged());
        }
        let (number, at) = (reader.varint()?, Timestamp(reader.varint()?));
        let (action, outcome) = (Action::from_number(reader.u8()?), Outcome::from_number(reader.u8()?));
        let reason = NonZeroU64::new(reader.varint()?).map(Reason);
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
            let kind = ObjectKind::from_number(reader.u8()?);
            objects.push(Object { kind, digest: reader.array()? });
        }
        let mut counts = Vec::new();
        for _ in 0..bounded(&mut reader, COUNTS_MAX)? {
            let count = Count::from_number(reader.u8()?);
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
        for end in 1..bytes.len() {
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
        // Neither depends on how many kinds this version knows.
        assert_eq!((COUNTS_MAX, RECORD_BYTES_MAX), (64, 35_100));
        let mut more = record;
        more.event.counts = (100..164).map(|kind| (Count::from_number(kind), 7)).collect();
        assert_eq!(Record::decode(&more.encode()).unwrap(), more);
    }

    #[test]
    fn names_and_numbers_are_read_as_they_are_written() {
        for action in (0..=u8::MAX).map(Action::from_number) {
            assert_eq!(Action::from_name(&action.name()), Some(action));
            assert_eq!(Action::from_number(action.number()), action);
        }
        assert!(Action::ALL.iter().all(|action| !matches!(action, Action::Unknown(_))));
        assert_eq!(Action::from_number(200).to_string(), "action 200");
        for other in ["nothing", "action 1", "action 0200", "action 256", ""] {
            assert_eq!(Action::from_name(other), None, "{other}");
        }
    }

    /// Numbers and names are in records and proofs that are kept for ever: what is changed here is what nobody can read any more.
    #[test]
    fn the_numbers_and_names_are_the_golden_ones() {
        let listed = |names: &[(u8, Cow<'static, str>)]| {
            names.iter().map(|(number, name)| format!("{number} {name}")).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(
            listed(&Action::ALL.map(|action| (action.number(), action.name()))),
            "1 open, 2 close, 3 key.rotate, 4 key.renew, 5 erase.subjects, 6 erase.keyspace, 7 hold, 8 release, 9 keyspace.create, \
             10 keyspace.drop, 11 keyspace.truncate, 12 keyspace.swap, 13 keyspace.alter, 14 keyspace.repartition, 15 checkpoint, \
             16 verify, 17 export, 18 import, 19 read, 20 write, 21 auth, 22 rights, 23 admin, 24 config, 25 flush, 26 shutdown, \
             27 audit.trim, 28 audit.missing, 29 audit.damage"
        );
        assert_eq!(
            listed(&Outcome::ALL.map(|outcome| (outcome.number(), outcome.name()))),
            "1 begun, 2 done, 3 refused, 4 failed"
        );
        assert_eq!(
            listed(&ObjectKind::ALL.map(|kind| (kind.number(), kind.name()))),
            "1 keyspace, 2 key, 3 subject, 4 user, 5 path, 6 name, 7 root, 8 link"
        );
        assert_eq!(
            listed(&Count::ALL.map(|count| (count.number(), count.name()))),
            "1 began, 2 through, 3 replayed, 4 cut_bytes, 5 entries, 6 bytes, 7 problems, 8 missing, 9 keyspace_id, 10 keyring, \
             11 clean, 12 objects, 13 partitions, 14 keys"
        );
        let reasons =
            REASONS.map(|kind| (u8::try_from(Reason::from(kind).number()).unwrap(), kind.to_string().into()));
        assert_eq!(
            listed(&reasons),
            "1 invalid, 2 not found, 3 conflict, 4 unavailable, 5 denied, 6 corrupt, 7 erased, 8 closed, 9 internal, 10 unsupported"
        );
    }

    /// Each release has more of them, and a log outlives many.
    #[test]
    fn what_a_newer_version_has_more_of_is_read_hashed_and_shown() {
        let mut bytes = record().encode();
        let fields =
            [(9, 30, "action 30"), (10, 9, "outcome 9"), (11, 100, "reason 100"), (32, 40, "kind 40")];
        for (at, number, _) in fields {
            bytes[at] = number;
        }
        let count = bytes.len() - 3;
        bytes[count] = 50;
        let read = Record::decode(&bytes).unwrap();
        assert_eq!(read.encode(), bytes);
        let event = &read.event;
        let shown = [
            event.action.to_string(),
            event.outcome.to_string(),
            event.reason.unwrap().to_string(),
            event.objects[0].kind.to_string(),
        ];
        assert_eq!(shown, fields.map(|(_, _, name)| name));
        assert_eq!((event.reason.unwrap().kind(), event.reason.unwrap().number()), (None, 100));
        assert_eq!(event.counts[0].0.to_string(), "count 50");
        let longer = [&[2], &vec![0; RECORD_BYTES_MAX + 1][..]].concat();
        for other_layout in [&[0][..], &[2, 1], &longer] {
            assert_eq!(Record::decode(other_layout).unwrap_err().kind(), ErrorKind::Unsupported);
        }
        let long = [&[LAYOUT], &vec![0; RECORD_BYTES_MAX][..]].concat();
        assert_eq!(Record::decode(&long).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
