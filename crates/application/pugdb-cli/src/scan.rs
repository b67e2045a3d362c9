//! `scan`: keys and values in order, as text.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::ops::Bound;

use bytes::Bytes;
use pugdb::KeyRange;

use crate::arguments::ScanArguments;
use crate::input;
use crate::outcome::{Exit, Failure};
use crate::output::Answer;
use crate::remote::Remote;
use crate::target::{Access, Local, Place};
use crate::text::escape_into;

/// What keys that are gathered for an ordered scan through a server may take up.
const GATHERED_BYTES_MAX: usize = 256 << 20;
/// What a gathered key costs beside its bytes: its handle and its place in the tree.
const GATHERED_OVERHEAD_BYTES: usize = 64;
/// Values that are on their way at a time.
const GETS_AHEAD: usize = 32;

pub(crate) fn scan(arguments: &ScanArguments) -> Result<Exit, Failure> {
    let bound = |argument: &Option<OsString>| {
        argument.as_deref().map(|text| input::key(text, arguments.spelling)).transpose()
    };
    let prefix = bound(&arguments.prefix)?.unwrap_or_default();
    let range = range(&prefix, bound(&arguments.start)?, bound(&arguments.end)?);
    let stdout = Answer::new();
    match arguments.target.open(Access::Existing)? {
        Place::Local(local) => scan_local(arguments, &local, range, stdout),
        Place::Remote(mut remote) => scan_remote(arguments, &mut remote, &prefix, &range, stdout),
    }
}

/// The keys that begin with `prefix`, from `start` on and before `end`.
fn range(prefix: &[u8], start: Option<Vec<u8>>, end: Option<Vec<u8>>) -> KeyRange {
    let with_prefix = KeyRange::prefix(prefix);
    let start = start.filter(|start| start.as_slice() > prefix).map_or(with_prefix.start, Bound::Included);
    let end = match (with_prefix.end, end) {
        (Bound::Excluded(last), Some(end)) => Bound::Excluded(last.min(end)),
        (_, Some(end)) => Bound::Excluded(end),
        (last, None) => last,
    };
    KeyRange { start, end }
}

fn scan_local(
    arguments: &ScanArguments,
    local: &Local,
    range: KeyRange,
    mut stdout: Answer,
) -> Result<Exit, Failure> {
    let mut scan = local.existing()?.scan(range).limit(arguments.limit.unwrap_or(usize::MAX));
    if arguments.reverse {
        scan = scan.reverse();
    }
    let mut line = String::new();
    for entry in scan {
        let (key, value) = entry?;
        print(&mut stdout, &mut line, &key, (!arguments.keys_only).then_some(&value))?;
    }
    stdout.finish()?;
    Ok(Exit::Done)
}

fn scan_remote(
    arguments: &ScanArguments,
    remote: &mut Remote,
    prefix: &[u8],
    range: &KeyRange,
    mut stdout: Answer,
) -> Result<Exit, Failure> {
    let mut keys = Gathered::new(range.clone(), arguments.reverse, arguments.limit.unwrap_or(usize::MAX));
    let pattern = glob_of_prefix(prefix);
    let mut cursor = Bytes::from_static(b"0");
    while !keys.is_pointless() {
        let (next, found) = remote.scan_step(&cursor, &pattern)?;
        for key in found {
            keys.add(&key)?;
        }
        if next.as_ref() == b"0" {
            break;
        }
        cursor = next;
    }
    let mut line = String::new();
    for group in keys.in_order().chunks(GETS_AHEAD) {
        if arguments.keys_only {
            for key in group {
                print(&mut stdout, &mut line, key, None)?;
            }
            continue;
        }
        for key in group {
            remote.send(&[b"GET", key])?;
        }
        for key in group {
            // A key that is gone by now is no longer part of the answer.
            if let Some(value) = remote.value()? {
                print(&mut stdout, &mut line, key, Some(&value))?;
            }
        }
    }
    stdout.finish()?;
    Ok(Exit::Done)
}

fn print(stdout: &mut Answer, line: &mut String, key: &[u8], value: Option<&[u8]>) -> Result<(), Failure> {
    line.clear();
    escape_into(line, key);
    if let Some(value) = value {
        line.push('\t');
        escape_into(line, value);
    }
    stdout.line(line)
}

/// The pattern of `SCAN … MATCH` that means this prefix.
fn glob_of_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut pattern = Vec::with_capacity(prefix.len() + 1);
    for &byte in prefix {
        if b"*?[]^-\\".contains(&byte) {
            pattern.push(b'\\');
        }
        pattern.push(byte);
    }
    pattern.push(b'*');
    pattern
}

/// The first keys of a range, or the last, out of keys that come in any order and more than once.
struct Gathered {
    range: KeyRange,
    reverse: bool,
    limit: usize,
    keys: BTreeSet<Bytes>,
    bytes: usize,
}

impl Gathered {
    fn new(range: KeyRange, reverse: bool, limit: usize) -> Self {
        Self { range, reverse, limit, keys: BTreeSet::new(), bytes: 0 }
    }

    /// True when no key can be part of it.
    fn is_pointless(&self) -> bool {
        self.limit == 0 || self.range.is_empty()
    }

    fn add(&mut self, key: &[u8]) -> Result<(), Failure> {
        // A copy of its own: a slice of the reply would keep all of the reply.
        if !self.range.contains(key) || !self.keys.insert(Bytes::copy_from_slice(key)) {
            return Ok(());
        }
        self.bytes += key.len() + GATHERED_OVERHEAD_BYTES;
        if self.keys.len() > self.limit {
            let out = if self.reverse { self.keys.pop_first() } else { self.keys.pop_last() };
            self.bytes -= out.map_or(0, |key| key.len() + GATHERED_OVERHEAD_BYTES);
        }
        if self.bytes > GATHERED_BYTES_MAX {
            return Err(Failure::usage(
                "too many keys to put them in order here; narrow the scan with --prefix, --start, --end or --limit",
            ));
        }
        Ok(())
    }

    fn in_order(self) -> Vec<Bytes> {
        let mut keys: Vec<Bytes> = self.keys.into_iter().collect();
        if self.reverse {
            keys.reverse();
        }
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_start_and_end_narrow_one_another() {
        let range = |prefix: &str, start: Option<&str>, end: Option<&str>| {
            range(
                prefix.as_bytes(),
                start.map(|key| key.as_bytes().to_vec()),
                end.map(|key| key.as_bytes().to_vec()),
            )
        };
        assert_eq!(range("", None, None), KeyRange::prefix(b""));
        assert_eq!(range("b", None, None), KeyRange::prefix(b"b"));
        assert_eq!(range("b", Some("a"), Some("d")), KeyRange::prefix(b"b"));
        assert_eq!(range("b", Some("b5"), Some("b7")), KeyRange::from(b"b5".as_slice()..b"b7".as_slice()));
        assert_eq!(range("", Some("b"), Some("d")), KeyRange::from(b"b".as_slice()..b"d".as_slice()));
        assert!(range("b", Some("c"), None).is_empty());
        assert!(range("b", None, Some("a")).is_empty());
    }

    #[test]
    fn a_prefix_is_no_pattern() {
        assert_eq!(glob_of_prefix(b"user:"), b"user:*");
        assert_eq!(glob_of_prefix(b"a*[b]?\\"), b"a\\*\\[b\\]\\?\\\\*");
    }

    #[test]
    fn the_first_or_last_keys_are_gathered_without_doubles() {
        let gather = |reverse, limit| {
            let mut keys = Gathered::new(KeyRange::from(b"b".as_slice()..b"y".as_slice()), reverse, limit);
            for key in ["x", "a", "c", "b", "z", "c", "m", "y", "b"] {
                keys.add(key.as_bytes()).unwrap();
            }
            let used = keys.bytes;
            let keys = keys.in_order();
            assert_eq!(used, keys.len() * (1 + GATHERED_OVERHEAD_BYTES));
            String::from_utf8(keys.concat()).unwrap()
        };
        assert_eq!(gather(false, usize::MAX), "bcmx");
        assert_eq!(gather(true, usize::MAX), "xmcb");
        assert_eq!(gather(false, 2), "bc");
        assert_eq!(gather(true, 2), "xm");
        assert_eq!(gather(true, 0), "");
    }
}
