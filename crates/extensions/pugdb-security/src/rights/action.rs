//! What somebody wants to do: an action has a name and belongs to categories. A face (RESP, SQL, HTTP) says which.

/// The categories of Redis 7.2, in its order. The place is the bit.
const NAMES: [&str; 21] = [
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
];

/// A set of categories.
///
/// ```
/// use pugdb_security::rights::Categories;
///
/// let both = Categories::named("read").unwrap().and(Categories::named("fast").unwrap());
/// assert_eq!(both.names().collect::<Vec<_>>(), ["read", "fast"]);
/// assert!(Categories::named("nonsense").is_none());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Categories(u32);

impl Categories {
    /// None.
    pub const NONE: Self = Self(0);

    /// The one of this name, in whatever case.
    pub fn named(name: &str) -> Option<Self> {
        let place = NAMES.iter().position(|known| known.eq_ignore_ascii_case(name))?;
        Some(Self(1 << place))
    }

    /// Those of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of the other's are here.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Their names, in the order of Redis.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.into_iter().enumerate().filter(move |(place, _)| self.0 >> place & 1 == 1).map(|(_, name)| name)
    }

    /// All there are.
    pub fn all_names() -> &'static [&'static str] {
        &NAMES
    }
}

/// What somebody wants to do: `get`, `config|set`.
#[derive(Clone, Copy, Debug)]
pub struct Action<'a> {
    /// In lower case; a part of a larger one behind a bar.
    pub name: &'a str,
    /// What it belongs to.
    pub categories: Categories,
}

/// What happens to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Something of its value, or whether it is there, is told.
    Read,
    /// It is written, and nothing of what it was is told.
    Write,
    /// Both.
    ReadWrite,
}

impl Access {
    pub(super) fn reads(self) -> bool {
        self != Self::Write
    }

    pub(super) fn writes(self) -> bool {
        self != Self::Read
    }
}

/// A key, and what happens to it.
#[derive(Clone, Copy)]
pub struct KeyUse<'a> {
    /// The name of its keyspace.
    pub keyspace: &'a str,
    /// The key.
    pub key: &'a [u8],
    /// What happens to it.
    pub access: Access,
}

/// All that is to be allowed together.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// What is to be done.
    pub action: Action<'a>,
    /// The keyspaces in which it is done, whatever the keys.
    pub keyspaces: &'a [&'a str],
    /// The keys it names.
    pub keys: &'a [KeyUse<'a>],
    /// What it does to all keys of its keyspaces, named or not.
    pub whole: Option<Access>,
    /// The channels it names.
    pub channels: &'a [&'a [u8]],
}

/// What is missing. Where several grants deny, it is the one that came furthest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Denial {
    /// The action.
    Action,
    /// A keyspace.
    Keyspace,
    /// A key: its place among those that were named; 0 for all keys.
    Key(usize),
    /// A channel: its place.
    Channel(usize),
}
