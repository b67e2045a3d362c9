//! Ten thousand secrets, each of its own, and where they are to be hidden. Step 1.

use std::ops::Range;

use pugdb::env::Random;
use serde::Serialize;

/// What a secret is used as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Key,
    Value,
    Keyspace,
    Subject,
    Transaction,
    Actor,
    User,
    Password,
    WrongPassword,
}

impl Kind {
    pub(super) const ALL: [Self; 9] = [
        Self::Key,
        Self::Value,
        Self::Keyspace,
        Self::Subject,
        Self::Transaction,
        Self::Actor,
        Self::User,
        Self::Password,
        Self::WrongPassword,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Key => "keys",
            Self::Value => "values",
            Self::Keyspace => "names of keyspaces",
            Self::Subject => "names of subjects",
            Self::Transaction => "names of transactions",
            Self::Actor => "actors in the audit log",
            Self::User => "names of users",
            Self::Password => "passwords",
            Self::WrongPassword => "wrong passwords",
        }
    }

    /// How many there are. A login takes long, on purpose, so passwords are few.
    pub(super) const fn count(self) -> usize {
        match self {
            Self::Key => 4_000,
            Self::Value => 4_010,
            Self::Keyspace => 40,
            Self::Subject => 1_522,
            Self::Transaction => 10,
            Self::Actor => 400,
            Self::User | Self::Password | Self::WrongPassword => 6,
        }
    }

    /// True when a database that is not encrypted has it on the disk. The others are nowhere, sealed or not.
    pub(super) fn is_kept(self) -> bool {
        !matches!(self, Self::Subject | Self::Password | Self::WrongPassword)
    }

    fn range(self) -> Range<usize> {
        let before: usize = Self::ALL.iter().take_while(|kind| **kind != self).map(|kind| kind.count()).sum();
        before..before + self.count()
    }
}

pub(super) struct Secrets(Vec<String>);

/// Long enough that two windows of it do not overlap, and that chance makes none.
pub(super) const SECRET_BYTES: usize = 26;
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyzACEFHJLX";

impl Secrets {
    pub(super) fn make(random: &dyn Random) -> Self {
        let count = Kind::ALL.iter().map(|kind| kind.count()).sum();
        let one = |_| {
            let mut bytes = [0; SECRET_BYTES];
            random.fill(&mut bytes);
            bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect()
        };
        Self((0..count).map(one).collect())
    }

    pub(super) fn of(&self, kind: Kind) -> &[String] {
        &self.0[kind.range()]
    }

    pub(super) fn all(&self) -> &[String] {
        &self.0
    }

    /// What the secret of this number is used as.
    pub(super) fn kind(number: usize) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.range().contains(&number))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use pugdb::env::os::OsRandom;

    use super::*;

    #[test]
    fn there_are_ten_thousand_and_each_has_one_use() {
        let secrets = Secrets::make(&OsRandom);
        assert_eq!(secrets.all().len(), 10_000);
        assert_eq!(secrets.all().iter().collect::<BTreeSet<_>>().len(), 10_000);
        for kind in Kind::ALL {
            assert_eq!(secrets.of(kind).len(), kind.count());
        }
        let of = |number| Secrets::kind(number);
        assert_eq!((of(0), of(3_999), of(4_000)), (Some(Kind::Key), Some(Kind::Key), Some(Kind::Value)));
        assert_eq!((of(9_999), of(10_000)), (Some(Kind::WrongPassword), None));
    }
}
