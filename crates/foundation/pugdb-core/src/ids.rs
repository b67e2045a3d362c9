//! Numbers that must never be confused, each with a type of its own.

use std::fmt;

use crate::env::Random;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number! {
    /// The place of one operation in the order of all operations of a sequence domain.
    ///
    /// Given out by a sequencer, opaque to the trees. Zero comes before every operation.
    Seqno(u64)
}
number! {
    /// A position in a log stream, in bytes since the stream began. Only the sequencer relates it to a [`Seqno`].
    Lsn(u64)
}
number! {
    /// A keyspace, numbered from 1 in the order of creation and never reused.
    KeyspaceId(u32)
}
number! {
    /// A log stream. A database by itself has exactly one, stream 0.
    StreamId(u32)
}

impl Seqno {
    /// Before every operation.
    pub const ZERO: Self = Self(0);
    /// After every operation.
    pub const MAX: Self = Self(u64::MAX);

    /// The seqno `count` operations later.
    #[must_use]
    pub fn plus(self, count: u64) -> Self {
        Self(self.0.checked_add(count).expect("2^64 operations take centuries"))
    }
}

impl Lsn {
    /// The position `bytes` later.
    #[must_use]
    pub fn plus(self, bytes: u64) -> Self {
        Self(self.0.checked_add(bytes).expect("2^64 bytes of log take centuries"))
    }
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// A fresh id: 128 random bits.
            pub fn random(random: &dyn Random) -> Self {
                let mut bytes = [0; 16];
                random.fill(&mut bytes);
                Self(bytes)
            }

            /// Reads the 32 hexadecimal digits that [`Display`](fmt::Display) writes.
            pub fn parse(text: &str) -> Option<Self> {
                if text.len() != 32 || !text.is_ascii() {
                    return None;
                }
                let mut bytes = [0; 16];
                for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
                    *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
                }
                Some(Self(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

random_id! {
    /// A file's identity, bound into every checksum and seal of its bytes, so a misplaced byte is noticed.
    FileId
}
random_id! {
    /// A database's identity: files of another database are refused.
    DatabaseId
}
random_id! {
    /// One opening of a database for writing. A copy of it that is written to has another one, so what belongs to the copy is told from
    /// what belongs to the original, though both go on at the same place.
    Incarnation
}
