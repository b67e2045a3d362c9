//! The machine: its clocks, its processors, its limits.

use pugdb::env::{Clock, Env};

use super::Finding;
use crate::sizing::MemoryLimit;

/// 2024-01-01: this program is younger.
const PLAUSIBLE_FROM_MS: u64 = 1_704_067_200_000;
/// 2100-01-01.
const PLAUSIBLE_UNTIL_MS: u64 = 4_102_444_800_000;
/// Readings of the stopwatch.
const READINGS: usize = 10_000;
/// Tables that are kept open, connections, and room.
const DESCRIPTORS_WARN: u64 = 4_096;
const DESCRIPTORS_FAIL: u64 = 256;
/// A quarter of it has no room for a few memtables of the usual size.
const MEMORY_BYTES_WARN: u64 = 256 << 20;

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

/// As many as may run at once, which is less than the machine has when the process is bound to some of them, or its control group
/// has a quota.
pub(super) fn processors(env: &Env) -> Finding {
    let machine = std::fs::read_to_string("/proc/cpuinfo").ok().map(|text| processors_of(&text));
    Finding::ok("processors", describe_processors(env.executor.processors(), machine))
}

fn processors_of(text: &str) -> usize {
    text.lines().filter(|line| line.starts_with("processor")).count()
}

fn describe_processors(allowed: usize, machine: Option<usize>) -> String {
    match machine {
        Some(machine) if machine > allowed => {
            format!("{allowed} of the {machine} of the machine: as affinity and control group allow")
        }
        _ => format!("{allowed}"),
    }
}

pub(super) fn memory(limit: Option<MemoryLimit>) -> Finding {
    let Some(limit) = limit else {
        return Finding::ok("memory", "the limit is not known on this system");
    };
    if limit.bytes < MEMORY_BYTES_WARN {
        let advice = "`pugdb serve` takes a quarter of it: one value has at most a sixteenth then, and writers wait soon";
        return Finding::warn("memory", limit.to_string(), advice);
    }
    Finding::ok("memory", limit.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use crate::sizing::Owner;

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
        assert_eq!(memory(None).verdict, Verdict::Ok);
        for (bytes, verdict) in [(16 << 30, Verdict::Ok), (128 << 20, Verdict::Warn)] {
            assert_eq!(memory(Some(MemoryLimit { bytes, owner: Owner::Group })).verdict, verdict);
        }
    }

    #[test]
    fn processors_are_those_that_may_be_used() {
        let machine = processors_of("processor\t: 0\nmodel name\t: x\n\nprocessor\t: 1\n");
        assert_eq!(machine, 2);
        assert_eq!(describe_processors(2, Some(machine)), "2");
        assert_eq!(describe_processors(2, None), "2");
        assert!(describe_processors(1, Some(machine)).starts_with("1 of the 2 of the machine"));
    }
}
