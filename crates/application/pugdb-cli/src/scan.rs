//! `scan`: keys and values in order, as text.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::ops::Bound;

use bytes::Bytes;
use pugdb::KeyRange;
use serde_json::Map;

use crate::arguments::{Form, ScanArguments};
use crate::input;
use crate::outcome::{Exit, Failure};
use crate::output::{Answer, Format, put_bytes};
use crate::remote::Remote;
use crate::target::{Access, Local, Place};
use crate::text::{base64, escaped, hex};
use crate::transfer::RowRef;

/// What keys that are gathered for an ordered scan through a server may take up.
const GATHERED_BYTES_MAX: usize = 256 << 20;
/// What a gathered key costs beside its bytes: its handle and its place in the tree.
const GATHERED_OVERHEAD_BYTES: usize = 64;
/// Values that are on their way at a time.
const GETS_AHEAD: usize = 32;

pub(crate) fn scan(arguments: &ScanArguments, format: Format) -> Result<Exit, Failure> {
    let form = arguments.spelling.form();
    let bound =
        |argument: &Option<OsString>| argument.as_deref().map(|text| input::key(text, form)).transpose();
    let prefix = bound(&arguments.prefix)?.unwrap_or_default();
    let query = Query {
        range: range(&prefix, bound(&arguments.start)?, bound(&arguments.end)?),
        prefix,
        reverse: arguments.reverse,
        limit: arguments.limit.unwrap_or(usize::MAX),
        keys_only: arguments.keys_only,
        with_expiry: format == Format::Json,
    };
    let mut printer = Printer { stdout: Answer::new(), line: Vec::new(), form, format };
    let mut place = arguments.target.open(Access::Existing)?;
    query.run(&mut place, &mut |row| printer.print(row))?;
    printer.stdout.finish()?;
    Ok(Exit::Done)
}

/// Which entries are wanted, and what of them.
pub(crate) struct Query {
    pub(crate) range: KeyRange,
    /// What all keys of the range begin with, as far as it is known: a server looks for it.
    pub(crate) prefix: Vec<u8>,
    pub(crate) reverse: bool,
    pub(crate) limit: usize,
    pub(crate) keys_only: bool,
    /// A server is asked for the expiry only where it is shown.
    pub(crate) with_expiry: bool,
}

/// An entry that was found; without a value when only keys are wanted.
pub(crate) struct Row<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) expires_at_ms: Option<u64>,
    pub(crate) meta: u8,
}

impl Query {
    /// All entries that begin with a prefix, in order.
    pub(crate) fn of_prefix(prefix: &[u8]) -> Self {
        Self {
            range: KeyRange::prefix(prefix),
            prefix: prefix.to_vec(),
            reverse: false,
            limit: usize::MAX,
            keys_only: false,
            with_expiry: false,
        }
    }

    /// Shows each entry in order.
    pub(crate) fn run(
        &self,
        place: &mut Place,
        show: &mut dyn FnMut(&Row<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        match place {
            Place::Local(local) => self.run_local(local, show),
            Place::Remote(remote) => self.run_remote(remote, show),
        }
    }

    fn run_local(
        &self,
        local: &Local,
        show: &mut dyn FnMut(&Row<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut scan = local.existing()?.scan(self.range.clone()).limit(self.limit);
        if self.reverse {
            scan = scan.reverse();
        }
        while let Some((key, entry)) = scan.next_entry()? {
            show(&Row {
                key: &key,
                value: (!self.keys_only).then_some(&entry.value),
                expires_at_ms: entry.expires_at.map(|at| at.0),
                meta: entry.meta,
            })?;
        }
        Ok(())
    }

    fn run_remote(
        &self,
        remote: &mut Remote,
        show: &mut dyn FnMut(&Row<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let keys = self.gather(remote)?;
        for group in keys.in_order().chunks(GETS_AHEAD) {
            if self.keys_only {
                for key in group {
                    show(&Row { key, value: None, expires_at_ms: None, meta: 0 })?;
                }
                continue;
            }
            for key in group {
                remote.send(&[b"GET", key])?;
                if self.with_expiry {
                    remote.send(&[b"PEXPIRETIME", key])?;
                }
            }
            for key in group {
                let value = remote.value()?;
                let expires_at_ms = if self.with_expiry { remote.expiry()? } else { None };
                // A key that is gone by now is no longer part of the answer.
                if let Some(value) = value {
                    show(&Row { key, value: Some(&value), expires_at_ms, meta: 0 })?;
                }
            }
        }
        Ok(())
    }

    fn gather(&self, remote: &mut Remote) -> Result<Gathered, Failure> {
        let mut keys = Gathered::new(self.range.clone(), self.reverse, self.limit);
        let pattern = glob_of_prefix(&self.prefix);
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
        Ok(keys)
    }
}

/// Prints rows to stdout.
struct Printer {
    stdout: Answer,
    line: Vec<u8>,
    form: Form,
    format: Format,
}

impl Printer {
    fn print(&mut self, row: &Row<'_>) -> Result<(), Failure> {
        self.line.clear();
        if self.format == Format::Json {
            write_json(row, &mut self.line);
        } else {
            self.write(row.key);
            if let Some(value) = row.value {
                self.line.push(b'\t');
                self.write(value);
            }
            self.line.push(b'\n');
        }
        self.stdout.write(&self.line)
    }

    fn write(&mut self, bytes: &[u8]) {
        match self.form {
            Form::Plain | Form::Literal | Form::Escaped => {
                self.line.extend_from_slice(escaped(bytes).as_bytes());
            }
            Form::Hex => self.line.extend_from_slice(hex(bytes).as_bytes()),
            Form::Base64 => self.line.extend_from_slice(base64(bytes).as_bytes()),
            Form::Raw => self.line.extend_from_slice(bytes),
        }
    }
}

/// Appends an entry as a line of JSON: as `export jsonl` writes it, or its key alone.
pub(crate) fn write_json(row: &Row<'_>, out: &mut Vec<u8>) {
    let Some(value) = row.value else {
        let mut object = Map::new();
        put_bytes(&mut object, "key", row.key);
        out.extend_from_slice(serde_json::Value::from(object).to_string().as_bytes());
        out.push(b'\n');
        return;
    };
    RowRef { key: row.key, value, expires_at_ms: row.expires_at_ms, meta: row.meta }
        .write(out)
        .expect("a vector takes everything");
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

/// The pattern of `SCAN … MATCH` that means this prefix.
pub(crate) fn glob_of_prefix(prefix: &[u8]) -> Vec<u8> {
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
