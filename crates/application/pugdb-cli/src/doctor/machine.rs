//! The machine: its clocks, its limits.

use pugdb::env::{Clock, Env};

use super::Finding;
use crate::text::human_bytes;

/// 2024-01-01: this program is younger.
const PLAUSIBLE_FROM_MS: u64 = 1_704_067_200_000;
/// 2100-01-01.
const PLAUSIBLE_UNTIL_MS: u64 = 4_102_444_800_000;
/// Readings of the stopwatch.
const READINGS: usize = 10_000;
/// Tables that are kept open, connections, and room.
const DESCRIPTORS_WARN: u64 = 4_096;
const DESCRIPTORS_FAIL: u64 = 256;
/// What `serve` takes when nothing else is said, and what stands beside it.
const MEMORY_BYTES_WARN: u64 = (1 << 30) + (256 << 20);

pub(super) fn calendar(env: &Env) -> Finding {
    judge_calendar(env.clock.now().0)
}

fn judge_calendar(now_ms: u64) -> Finding {
    let found = format!("{now_ms} ms since 1970");
    let advice = "set it (chrony, systemd-timesyncd): keys with an expiry go by it";
    if now_ms < PLAUSIBLE_FROM_MS {
        Finding::fail("calendar", format!("{found}: it is before 2024"), advice)
    } else if now_ms >= PLAUSIBLE_UNTIL_MS {
        Finding::fail("calendar", format!("{found}: it is after 2100"), advice)
    } else {
        Finding::ok("calendar", format!("{found}: it is plausible"))
    }
}

pub(super) fn stopwatch(env: &Env) -> Finding {
    if goes_back(&*env.clock) {
        return Finding::fail(
            "stopwatch",
            "it went back",
            "this kernel's clock source is broken; choose another one",
        );
    }
    Finding::ok("stopwatch", format!("it never went back in {READINGS} readings"))
}

fn goes_back(clock: &dyn Clock) -> bool {
    let mut before = clock.monotonic();
    (0..READINGS).any(|_| {
        let now = clock.monotonic();
        let went_back = now < before;
        before = now;
        went_back
    })
}

pub(super) fn descriptors() -> Finding {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    judge_descriptors(limit.current)
}

fn judge_descriptors(limit: Option<u64>) -> Finding {
    let advice = "raise it (`ulimit -n`, LimitNOFILE= in systemd): each client takes one, and a quarter of them, up to 4096, is for tables";
    match limit {
        None => Finding::ok("descriptors", "as many open files as wanted"),
        Some(limit) if limit < DESCRIPTORS_FAIL => {
            Finding::fail("descriptors", format!("{limit} open files"), advice)
        }
        Some(limit) if limit < DESCRIPTORS_WARN => {
            Finding::warn("descriptors", format!("{limit} open files"), advice)
        }
        Some(limit) => Finding::ok("descriptors", format!("{limit} open files")),
    }
}

/// The smaller of the machine's memory and of what the process's group may take.
pub(super) fn memory() -> Finding {
    let machine = read("/proc/meminfo").and_then(|text| memory_total(&text));
    let groups = read("/proc/self/cgroup").map(|text| group_limit(&text)).unwrap_or_default();
    judge_memory(machine, groups)
}

fn judge_memory(machine: Option<u64>, group: Option<u64>) -> Finding {
    let (bytes, which) = match (machine, group) {
        (machine, Some(group)) if machine.is_none_or(|machine| group < machine) => {
            (group, "the limit of the control group")
        }
        (Some(machine), _) => (machine, "the memory of the machine"),
        (None, _) => return Finding::ok("memory", "the limit is not known on this system"),
    };
    let found = format!("{}: {which}", human_bytes(bytes));
    if bytes < MEMORY_BYTES_WARN {
        let advice = "`pugdb serve` takes 1 GiB when nothing else is said; give it less with --memory";
        return Finding::warn("memory", found, advice);
    }
    Finding::ok("memory", found)
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
    use super::super::Verdict;
    use super::*;

    #[test]
    fn calendars_are_judged() {
        assert_eq!(judge_calendar(0).verdict, Verdict::Fail);
        assert_eq!(judge_calendar(1_800_000_000_000).verdict, Verdict::Ok);
        assert_eq!(judge_calendar(u64::MAX).verdict, Verdict::Fail);
    }

    #[test]
    fn limits_are_judged() {
        assert_eq!(judge_descriptors(Some(100)).verdict, Verdict::Fail);
        assert_eq!(judge_descriptors(Some(1_024)).verdict, Verdict::Warn);
        assert_eq!(judge_descriptors(Some(65_536)).verdict, Verdict::Ok);
        assert_eq!(judge_descriptors(None).verdict, Verdict::Ok);
        assert_eq!(judge_memory(Some(16 << 30), None).verdict, Verdict::Ok);
        let group = judge_memory(Some(16 << 30), Some(512 << 20));
        assert!(group.verdict == Verdict::Warn && group.found.contains("control group"), "{group:?}");
        assert!(judge_memory(Some(1 << 30), Some(u64::MAX)).found.contains("machine"));
        assert_eq!(judge_memory(None, None).verdict, Verdict::Ok);
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
