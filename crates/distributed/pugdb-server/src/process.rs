//! What the operating system says of this process and this machine, where it says it: on Linux, under `/proc`.

use std::fs::read_to_string;
use std::time::Duration;

/// Bytes of memory that the process really has.
pub(crate) fn resident_bytes() -> Option<u64> {
    kilobytes("/proc/self/status", "VmRSS:")
}

/// Bytes of memory of the machine.
pub(crate) fn machine_bytes() -> Option<u64> {
    kilobytes("/proc/meminfo", "MemTotal:")
}

/// Time on a processor: in the program, and in the system for it.
pub(crate) fn processor_time() -> Option<(Duration, Duration)> {
    read_to_string("/proc/self/stat").ok().and_then(|stat| times_of(&stat))
}

fn kilobytes(file: &str, name: &str) -> Option<u64> {
    let text = read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// Fields 14 and 15 of proc(5), in ticks, of which the kernel shows programs a hundred a second. The program's name
/// before them may hold anything, but it ends at the last parenthesis.
fn times_of(stat: &str) -> Option<(Duration, Duration)> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || Some(Duration::from_millis(fields.next()?.parse::<u64>().ok()? * 10));
    Some((ticks()?, ticks()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 2 0 0 0 150 25 0 0 20 0 1 0";
        assert_eq!(times_of(stat), Some((Duration::from_millis(1500), Duration::from_millis(250))));
        assert_eq!(times_of("nothing"), None);
        assert_eq!(times_of("7 (a) S 1"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn linux_tells_all_of_it() {
        assert!(resident_bytes().unwrap() > 1 << 20);
        assert!(machine_bytes().unwrap() > resident_bytes().unwrap());
        assert!(processor_time().is_some());
    }
}
