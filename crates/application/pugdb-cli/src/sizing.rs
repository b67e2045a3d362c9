//! What the machine allows, and how much of it is taken when nothing is said. What decides is pure; `MemoryLimit::ask` asks the system.

use std::fmt;

use pugdb::limits;

use crate::text::{human_bytes, parse_size};

/// What `serve` takes where there is enough.
pub(crate) const SERVE_MEMORY_BYTES: usize = 1 << 30;
/// The rest is for what stands beside the database, and for the system to keep files in.
const PART: u64 = 4;

/// The memory that there is for all that runs here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryLimit {
    pub(crate) bytes: u64,
    pub(crate) owner: Owner,
}

/// Whose limit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Machine,
    /// The process's control group, or one above it.
    Group,
}

impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owner = match self.owner {
            Owner::Machine => "the memory of the machine",
            Owner::Group => "the limit of the control group",
        };
        write!(f, "{}: {owner}", human_bytes(self.bytes))
    }
}

impl MemoryLimit {
    /// The smaller of the machine's memory and of what the process's group may take; `None` where neither is known.
    pub(crate) fn ask() -> Option<Self> {
        let machine = read("/proc/meminfo").and_then(|text| memory_total(&text));
        let groups = read("/proc/self/cgroup").and_then(|text| group_limit(&text));
        Self::smaller(machine, groups)
    }

    fn told(self) -> String {
        let owner = match self.owner {
            Owner::Machine => "machine",
            Owner::Group => "control group",
        };
        format!("the {} of the {owner}", human_bytes(self.bytes))
    }

    fn smaller(machine: Option<u64>, group: Option<u64>) -> Option<Self> {
        let machine = machine.map(|bytes| Self { bytes, owner: Owner::Machine });
        let group = group.map(|bytes| Self { bytes, owner: Owner::Group });
        // A group without a limit has a number in version 1 that no machine reaches.
        machine.into_iter().chain(group).min_by_key(|limit| limit.bytes)
    }
}

/// What `--memory` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// What suits the machine.
    Auto,
    Bytes(usize),
}

/// How much is taken, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) bytes: usize,
    pub(crate) why: String,
}

impl Memory {
    /// A size, or `auto`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text == "auto" { Ok(Self::Auto) } else { parse_size(text).map(Self::Bytes) }
    }

    /// Pure: `usual`, but never more than a quarter of what there is.
    pub(crate) fn choose(self, usual: usize, limit: Option<MemoryLimit>) -> Choice {
        let limit = match (self, limit) {
            (Self::Bytes(bytes), _) => return Choice { bytes, why: "as asked for".to_owned() },
            (Self::Auto, None) => {
                let why = "the usual; how much there is is not known on this system".to_owned();
                return Choice { bytes: usual, why };
            }
            (Self::Auto, Some(limit)) => limit,
        };
        let quarter = usize::try_from(limit.bytes / PART).unwrap_or(usize::MAX);
        if quarter >= usual {
            return Choice { bytes: usual, why: format!("the usual, at most a quarter of {}", limit.told()) };
        }
        if quarter < limits::MEMORY_BYTES_MIN {
            let why = format!("the least that a database can have, more than a quarter of {}", limit.told());
            return Choice { bytes: limits::MEMORY_BYTES_MIN, why };
        }
        Choice { bytes: quarter, why: format!("a quarter of {}", limit.told()) }
    }
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// `MemTotal:  16384 kB`.
fn memory_total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
}

/// The smallest limit of the groups that `/proc/self/cgroup` names, and of those above them.
fn group_limit(text: &str) -> Option<u64> {
    text.lines().filter_map(|line| limit_of(line, &read)).min()
}

/// A line is `0::/path` in version 2, `4:memory:/path` in version 1.
fn limit_of(line: &str, read: &dyn Fn(&str) -> Option<String>) -> Option<u64> {
    let mut parts = line.splitn(3, ':');
    let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let (root, file) = match controllers {
        "" => ("/sys/fs/cgroup", "memory.max"),
        _ if controllers.split(',').any(|name| name == "memory") => {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        }
        _ => return None,
    };
    let mut path = path.trim_end_matches('/');
    let mut smallest = None;
    loop {
        // `max` is no number: no limit there.
        let limit = read(&format!("{root}{path}/{file}")).and_then(|text| text.trim().parse::<u64>().ok());
        smallest = smallest.into_iter().chain(limit).min();
        match path.rsplit_once('/') {
            Some((above, _)) => path = above,
            None => return smallest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn bytes(memory: Memory, usual: u64, limit: Option<u64>) -> u64 {
        let limit = limit.map(|bytes| MemoryLimit { bytes, owner: Owner::Group });
        memory.choose(usize::try_from(usual).unwrap(), limit).bytes as u64
    }

    #[test]
    fn memory_is_the_usual_or_a_quarter_of_what_there_is() {
        for (limit, chosen) in [
            (None, 1024 * MIB),
            (Some(u64::MAX), 1024 * MIB),
            (Some(4096 * MIB), 1024 * MIB),
            (Some(4096 * MIB - 4), 1024 * MIB - 1),
            (Some(512 * MIB), 128 * MIB),
            (Some(4 * MIB), MIB),
            (Some(3 * MIB), MIB),
            (Some(0), MIB),
        ] {
            assert_eq!(bytes(Memory::Auto, 1024 * MIB, limit), chosen, "{limit:?}");
        }
        assert_eq!(bytes(Memory::Bytes(7), 1024 * MIB, Some(4 * MIB)), 7, "what is asked for is given");
        let group = MemoryLimit { bytes: 512 * MIB, owner: Owner::Group };
        let why = Memory::Auto.choose(SERVE_MEMORY_BYTES, Some(group)).why;
        assert_eq!(why, "a quarter of the 512.0 MiB of the control group");
    }

    #[test]
    fn memory_is_a_size_or_left_to_the_machine() {
        assert_eq!(Memory::parse("auto"), Ok(Memory::Auto));
        assert_eq!(Memory::parse("64MiB"), Ok(Memory::Bytes(64 << 20)));
        assert!(Memory::parse("automatic").unwrap_err().contains("64MiB"));
    }

    #[test]
    fn the_smaller_of_machine_and_group_counts() {
        let limit =
            |machine, group| MemoryLimit::smaller(machine, group).map(|limit| (limit.bytes, limit.owner));
        assert_eq!(limit(Some(16), Some(5)), Some((5, Owner::Group)));
        assert_eq!(limit(Some(16), Some(u64::MAX)), Some((16, Owner::Machine)));
        assert_eq!(limit(Some(16), None), Some((16, Owner::Machine)));
        assert_eq!(limit(None, Some(5)), Some((5, Owner::Group)));
        assert_eq!(limit(None, None), None);
    }

    #[test]
    fn the_smallest_limit_of_a_group_and_those_above_it_counts() {
        let read = |path: &str| match path {
            "/sys/fs/cgroup/a/b/memory.max" => Some("max\n".to_owned()),
            "/sys/fs/cgroup/a/memory.max" => Some("1000\n".to_owned()),
            "/sys/fs/cgroup/memory.max" => Some("5000\n".to_owned()),
            "/sys/fs/cgroup/memory/x/memory.limit_in_bytes" => Some("700\n".to_owned()),
            _ => None,
        };
        assert_eq!(limit_of("0::/a/b", &read), Some(1_000));
        assert_eq!(limit_of("0::/", &read), Some(5_000));
        assert_eq!(limit_of("4:cpu,memory:/x", &read), Some(700));
        assert_eq!(limit_of("4:cpu:/x", &read), None);
        assert_eq!(limit_of("nonsense", &read), None);
        assert_eq!(memory_total("MemFree: 1 kB\nMemTotal:       2048 kB\n"), Some(2 << 20));
    }
}
