//! What the machine is and how busy: figures mean little without it.

use std::fs;
use std::path::Path;

/// The load of the last minute: how many threads wanted a core. Above the number of cores, wall-clock figures are those
/// of a crowd.
#[must_use]
pub fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(f64::NAN)
}

/// Cores, processor and kernel, in one line.
#[must_use]
pub fn describe() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown processor", |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // Major and minor version: what is behind is the distribution's own.
    let kernel = kernel.trim().splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
    format!("{cores} cores, {model}, Linux {kernel}")
}

/// The type of the file system that holds `path`, as `/proc/mounts` names it.
#[must_use]
pub fn file_system(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            Some((words.next()?, words.next()?))
        })
        .filter(|(mount, _)| path.starts_with(mount))
        .max_by_key(|(mount, _)| mount.len())
        .map_or_else(|| "unknown".to_owned(), |(_, kind)| kind.to_owned())
}

/// The bytes that a directory takes on disk. Holes take none, what is preallocated does.
#[must_use]
pub fn disk_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries
        .filter_map(Result::ok)
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
            Ok(metadata) => metadata.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

/// The most memory that this process has had at once.
#[must_use]
pub fn peak_memory_bytes() -> u64 {
    number("/proc/self/status", "VmHWM:") * 1024
}

/// The memory that this process has now.
#[must_use]
pub fn memory_bytes() -> u64 {
    number("/proc/self/status", "VmRSS:") * 1024
}

/// What this process has caused to be written to files.
#[must_use]
pub fn written_bytes() -> u64 {
    number("/proc/self/io", "write_bytes:")
}

/// The number behind a name; 0 where there is none.
fn number(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let rest = text.lines().find_map(|line| line.strip_prefix(name));
    rest.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
