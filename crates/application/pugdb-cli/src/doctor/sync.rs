//! Syncs: how long they take, and what can and cannot be concluded.

use std::io;
use std::path::Path;
use std::time::Duration;

use pugdb::env::Env;

use super::Finding;
use super::directory::{FileSystem, Nature, scratch};

/// Appended writes that are synced one by one.
const SYNCS: usize = 64;
/// The measuring ends then, on a disk that takes long.
const TIME_MAX: Duration = Duration::from_secs(3);
const WRITE_BYTES: usize = 512;
const FILE_BYTES: u64 = 64 << 10;
/// Faster than a flash drive without a protected cache makes anything durable.
const SUSPICIOUS: Duration = Duration::from_micros(20);
/// A hard disk takes about 10 ms.
const SLOW: Duration = Duration::from_millis(30);

pub(super) fn sync(place: &Path, file_system: &FileSystem, env: &Env) -> Finding {
    let path = scratch(place);
    let measured = measure(&path, env);
    // What stays is a small hidden file.
    let _ = env.fs.remove(&path);
    match measured {
        Ok(times) => judge(times, file_system.nature),
        Err(error) => Finding::fail(
            "sync",
            format!("it failed: {error}"),
            "nothing can be made durable here; look at the kernel's log",
        ),
    }
}

/// As the log writes: into a preallocated file, `fdatasync` behind each write.
fn measure(path: &Path, env: &Env) -> io::Result<Vec<Duration>> {
    let file = env.fs.create(path)?;
    file.allocate(FILE_BYTES)?;
    file.sync_data()?;
    let began = env.clock.monotonic();
    let mut times = Vec::with_capacity(SYNCS);
    for number in 0..SYNCS {
        let offset = (number * WRITE_BYTES) as u64;
        file.write_at(&[0xa5; WRITE_BYTES], offset)?;
        let start = env.clock.monotonic();
        file.sync_data()?;
        let end = env.clock.monotonic();
        times.push(end.saturating_sub(start));
        if end.saturating_sub(began) > TIME_MAX {
            break;
        }
    }
    Ok(times)
}

/// Pure: what such times mean there.
fn judge(mut times: Vec<Duration>, nature: Nature) -> Finding {
    times.sort_unstable();
    let Some(&median) = times.get(times.len() / 2) else {
        return Finding::warn("sync", "nothing was measured", "run it again");
    };
    let slowest = times.last().copied().unwrap_or(median);
    let found = format!(
        "{} in {} syncs of {WRITE_BYTES} bytes, the slowest {}",
        took(median),
        times.len(),
        took(slowest)
    );
    if nature == Nature::Memory {
        return Finding::warn("sync", found, "a sync makes nothing durable in memory");
    }
    if median < SUSPICIOUS {
        return Finding::warn(
            "sync",
            format!("{found}: too fast for a disk"),
            "either a cache with a battery, or syncs are ignored (a virtual disk with cache=unsafe, libeatmydata, an option \
             nobarrier): then a power cut loses what was acknowledged. Only a power cut shows which",
        );
    }
    if median > SLOW {
        return Finding::warn(
            "sync",
            format!("{found}: slow"),
            "every group of writes waits so long; a flash disk takes below 1 ms, and --durability os does not wait",
        );
    }
    Finding::ok("sync", format!("{found}: as a disk takes that really writes (only a power cut proves it)"))
}

fn took(time: Duration) -> String {
    if time < Duration::from_millis(10) {
        format!("{} us", time.as_micros())
    } else {
        format!("{} ms", time.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn times_are_judged_by_their_median() {
        let judged = |micros: &[u64], nature| {
            judge(micros.iter().map(|&us| Duration::from_micros(us)).collect(), nature)
        };
        let ok = judged(&[5, 900, 800, 1_000, 90_000], Nature::Local);
        assert_eq!(ok.verdict, Verdict::Ok);
        assert!(
            ok.found.starts_with("900 us in 5 syncs") && ok.found.contains("the slowest 90 ms"),
            "{}",
            ok.found
        );
        let fast = judged(&[2, 3, 3, 3, 5_000], Nature::Local);
        assert!(fast.verdict == Verdict::Warn && fast.advice.unwrap().contains("Only a power cut shows"));
        assert_eq!(judged(&[100_000; 5], Nature::Local).verdict, Verdict::Warn);
        assert_eq!(judged(&[900; 5], Nature::Memory).verdict, Verdict::Warn);
        assert_eq!(judged(&[], Nature::Local).verdict, Verdict::Warn);
    }

    #[test]
    fn it_measures_here_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let times = measure(&dir.path().join("file"), &Env::os()).unwrap();
        assert!(!times.is_empty() && times.len() <= SYNCS);
        let file_system = FileSystem { name: String::new(), nature: Nature::Local };
        sync(dir.path(), &file_system, &Env::os());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "the test's own file");
    }
}
