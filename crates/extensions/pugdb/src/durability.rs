//! What a commit has survived when it returns: the levels, and their names.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use pugdb_core::Error;

/// What a commit has survived when it returns.
///
/// After any crash the database holds a prefix of the commits, in the order they were made, across all keyspaces.
///
/// | level | survives a killed process | survives a power cut | costs |
/// |---|---|---|---|
/// | [`Sync`](Self::Sync) | yes | yes | a sync, shared by those who wait at the same time |
/// | [`Group`](Self::Group) | yes | yes | a sync, shared by all of `max_delay`; each commit waits up to that long more |
/// | [`Periodic`](Self::Periodic) | yes | all but the last `interval` | nobody waits; a sync every `interval` in the background |
/// | [`Os`](Self::Os) | yes | no promise | nobody waits |
///
/// There is one level below, which is not a commit's to choose but a keyspace's: an
/// [unlogged](crate::KeyspaceOptions::logging) one is not in the log, and whatever the level, its commits survive when
/// they are flushed.
///
/// ```
/// use pugdb::{Database, Durability};
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("data");
/// let db = Database::open(&path)?;
/// let clicks = db.keyspace("clicks")?.durability(Durability::Os);
/// clicks.put(b"ada", b"1")?; // the operating system has it
/// db.keyspace("orders")?.put(b"1", b"paid")?; // it is on disk
/// assert_eq!(db.durability(), Durability::Sync);
/// # Ok::<(), pugdb::Error>(())
/// ```
///
/// In settings the levels are called `sync`, `group:5ms`, `periodic:1s` and `os`:
///
/// ```
/// use std::time::Duration;
/// use pugdb::Durability;
///
/// let level: Durability = "periodic:250ms".parse()?;
/// assert_eq!(level, Durability::Periodic { interval: Duration::from_millis(250) });
/// assert_eq!(level.to_string(), "periodic:250ms");
/// # Ok::<(), pugdb::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Durability {
    /// The log is on disk: the commit survives a power cut. One sync carries many commits.
    #[default]
    Sync,
    /// As [`Sync`](Self::Sync), and the commit lets up to `max_delay` pass so that others can share its sync. For many
    /// writers on a disk whose syncs are slow; a writer alone is slower for it.
    Group {
        /// How long a commit waits for others at most.
        max_delay: Duration,
    },
    /// The operating system has it, and within `interval` it is on disk: a power cut takes at most the commits of the last
    /// interval, and the time that a sync needs. More than five seconds count as five.
    Periodic {
        /// How long a commit stays unsynced at most.
        interval: Duration,
    },
    /// The operating system has it: the commit survives the death of this process. After a power cut everything since
    /// the last synced commit can be gone.
    Os,
}

impl Durability {
    /// True when a commit has reached the disk before it returns.
    ///
    /// ```
    /// assert!(pugdb::Durability::Sync.is_synced());
    /// assert!(!pugdb::Durability::Os.is_synced());
    /// ```
    pub fn is_synced(self) -> bool {
        match self {
            Self::Sync | Self::Group { .. } => true,
            Self::Periodic { .. } | Self::Os => false,
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sync => f.write_str("sync"),
            Self::Group { max_delay } => write!(f, "group:{max_delay:?}"),
            Self::Periodic { interval } => write!(f, "periodic:{interval:?}"),
            Self::Os => f.write_str("os"),
        }
    }
}

impl FromStr for Durability {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let level = match text.split_once(':') {
            None => match text {
                "sync" => Some(Self::Sync),
                "os" => Some(Self::Os),
                _ => None,
            },
            Some(("group", delay)) => duration(delay).map(|max_delay| Self::Group { max_delay }),
            Some(("periodic", delay)) => duration(delay).map(|interval| Self::Periodic { interval }),
            Some(_) => None,
        };
        level.ok_or_else(|| {
            Error::invalid("a durability is sync, group:5ms, periodic:1s or os, with a time in us, ms or s")
        })
    }
}

/// A whole number of microseconds, milliseconds or seconds.
fn duration(text: &str) -> Option<Duration> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = text[..text.len() - unit.len()].parse().ok().filter(|&number| number > 0)?;
    match unit {
        "us" | "µs" => Some(Duration::from_micros(number)),
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for name in ["sync", "os", "group:2ms", "group:500µs", "periodic:1s"] {
            assert_eq!(name.parse::<Durability>().unwrap().to_string(), name);
        }
        for name in
            ["", "group", "group:", "group:0ms", "group:5", "group:-1s", "periodic:1h", "sync:1s", "none"]
        {
            let error = name.parse::<Durability>().unwrap_err().to_string();
            assert!(error.contains("group:5ms"), "{name}: {error}");
        }
    }
}
