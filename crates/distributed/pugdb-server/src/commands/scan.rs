//! `SCAN`: goes through a database in portions, each from where the one before ended.

use std::ops::Bound;

use bytes::Bytes;
use pugdb::{KeyRange, glob};
use pugdb_wire::resp::Reply;

use super::keys::type_name;
use super::{permit, text};
use crate::arguments::{at, is, need_integer};
use crate::call::{Call, View};
use crate::cursors::Position;
use crate::failure::Failure;
use crate::identity::Sight;
use crate::limits::{SCAN_BYTES, SCAN_KEYS_MAX};

/// What a `SCAN` is asked for beside its cursor.
struct Filter<'a> {
    pattern: Option<&'a [u8]>,
    type_name: Option<&'a [u8]>,
    /// Keys to look at.
    count: usize,
}

/// One portion of a scan.
struct Portion {
    keys: Vec<Reply>,
    /// The last key it looked at; `None` when there are no more.
    ended_at: Option<Bytes>,
}

/// `SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]`
pub(super) fn scan(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let cursor = parse_cursor(at(arguments, 1)?)?;
    let filter = Filter::parse(arguments.get(2..).unwrap_or_default())?;
    let after = match cursor {
        Some(id) => {
            let position = call.shared.cursors.position(id);
            // Silence would look like the end of a scan that has not ended.
            Some(position.filter(|at| at.database == call.database).ok_or(Failure::INVALID_CURSOR)?.after)
        }
        None => None,
    };
    let portion = read_portion(&call.view()?, after.as_deref(), &filter, &permit::sight(call, "scan"))?;
    let cursors = &call.shared.cursors;
    let next = match (portion.ended_at, cursor) {
        (Some(after), _) => cursors.advance(cursor, Position { database: call.database, after }),
        (None, Some(cursor)) => {
            cursors.finish(cursor);
            0
        }
        (None, None) => 0,
    };
    Ok(Reply::Array(vec![text(next.to_string()), Reply::Array(portion.keys)]))
}

/// The number of a cursor; `None` is the beginning.
fn parse_cursor(cursor: &[u8]) -> Result<Option<u64>, Failure> {
    let digits = !cursor.is_empty() && cursor.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(cursor).ok().filter(|_| digits).and_then(|digits| digits.parse().ok());
    number.map(|id| (id != 0).then_some(id)).ok_or(Failure::INVALID_CURSOR)
}

impl<'a> Filter<'a> {
    fn parse(mut words: &'a [Bytes]) -> Result<Self, Failure> {
        let mut filter = Self { pattern: None, type_name: None, count: 10 };
        while let [option, value, after @ ..] = words {
            words = after;
            if is(option, "match") {
                filter.pattern = Some(value);
            } else if is(option, "type") {
                filter.type_name = Some(value);
            } else if is(option, "count") {
                let count = need_integer(value)?;
                if count < 1 {
                    return Err(Failure::SYNTAX);
                }
                filter.count = usize::try_from(count).unwrap_or(SCAN_KEYS_MAX).min(SCAN_KEYS_MAX);
            } else {
                return Err(Failure::SYNTAX);
            }
        }
        if words.is_empty() { Ok(filter) } else { Err(Failure::SYNTAX) }
    }

    fn wants(&self, key: &[u8], meta: u8) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(pattern, key))
            && self.type_name.is_none_or(|name| is(name, type_name(meta)))
    }

    /// The keys that can match, behind the position.
    fn range(&self, after: Option<&[u8]>) -> KeyRange {
        let mut range = KeyRange::prefix(self.pattern.map(glob::literal_prefix).unwrap_or_default());
        if let Some(after) = after.filter(|after| !range.ends_before(after)) {
            let begins_before = match &range.start {
                Bound::Included(start) | Bound::Excluded(start) => start.as_slice() <= after,
                Bound::Unbounded => true,
            };
            if begins_before {
                range.start = Bound::Excluded(after.to_vec());
            }
        }
        range
    }
}

fn read_portion(
    view: &View<'_>,
    after: Option<&[u8]>,
    filter: &Filter<'_>,
    sight: &Sight,
) -> Result<Portion, Failure> {
    let range = filter.range(after);
    if after.is_some_and(|after| range.ends_before(after)) {
        return Ok(Portion { keys: Vec::new(), ended_at: None });
    }
    let mut scan = view.scan(range)?;
    let (mut keys, mut looked_at, mut passed, mut bytes) = (Vec::new(), 0, 0, 0);
    while let Some((key, entry)) = scan.next_entry()? {
        let is_seen = sight.sees(&key);
        let key = key.into_bytes();
        // What is hidden is passed over and not counted: the number of portions would tell how much there is.
        passed += 1;
        looked_at += usize::from(is_seen);
        let wanted = is_seen && filter.wants(&key, entry.meta);
        // Copied: a key may be a part of a whole block, which a cursor must not keep.
        let ends = looked_at >= filter.count || passed >= SCAN_KEYS_MAX || bytes + key.len() >= SCAN_BYTES;
        let ended_at = ends.then(|| Bytes::copy_from_slice(&key));
        if wanted {
            bytes += key.len();
            keys.push(Reply::Bulk(key));
        }
        if ends {
            return Ok(Portion { keys, ended_at });
        }
    }
    Ok(Portion { keys, ended_at: None })
}

#[cfg(test)]
mod tests {
    use pugdb::{Database, Keyspace};

    use super::*;

    /// Goes through a database from the beginning to the end.
    fn all(keyspace: &Keyspace, filter: &Filter<'_>) -> Vec<Reply> {
        let (mut keys, mut after) = (Vec::new(), None);
        loop {
            let view = View::of_now(keyspace);
            let portion = read_portion(&view, after.as_deref(), filter, &Sight::of_all()).unwrap();
            keys.extend(portion.keys);
            match portion.ended_at {
                Some(ended_at) => after = Some(ended_at),
                None => return keys,
            }
        }
    }

    #[test]
    fn every_pattern_and_portion_finds_what_a_plain_filter_finds() {
        let db = Database::in_memory().unwrap();
        let keyspace = db.keyspace("db0").unwrap();
        let keys: [&[u8]; 11] =
            [b"", b"\0", b"a", b"a\0", b"aa", b"ab", b"b", b"b\xff", b"b\xff\xff", b"\xff", b"\xff\xff"];
        for key in keys {
            keyspace.put(key, b"").unwrap();
        }
        let patterns: [&[u8]; 12] = [
            b"*",
            b"",
            b"a",
            b"a*",
            b"a\0*",
            b"b\xff*",
            b"\xff*",
            b"\xff\xff",
            b"?",
            b"[ab]*",
            b"\\a*",
            b"c*",
        ];
        for pattern in patterns {
            let expected: Vec<Reply> = keys
                .into_iter()
                .filter(|key| glob::matches(pattern, key))
                .map(|key| Reply::Bulk(Bytes::from_static(key)))
                .collect();
            for count in 1..=keys.len() + 1 {
                let filter = Filter { pattern: Some(pattern), type_name: None, count };
                assert!(all(&keyspace, &filter) == expected, "pattern {pattern:?}, portions of {count}");
            }
        }
    }

    #[test]
    fn a_cursor_beyond_the_pattern_is_the_end_and_one_before_it_is_its_beginning() {
        let db = Database::in_memory().unwrap();
        let keyspace = db.keyspace("db0").unwrap();
        for key in [b"a1", b"b1", b"b2", b"c1"] {
            keyspace.put(key, b"").unwrap();
        }
        let filter = Filter { pattern: Some(b"b*"), type_name: None, count: 10 };
        let found = |after: &[u8]| {
            read_portion(&View::of_now(&keyspace), Some(after), &filter, &Sight::of_all()).unwrap().keys.len()
        };
        assert_eq!([b"a1", b"b1", b"b2", b"c1"].map(|after| found(after)), [2, 1, 0, 0]);
    }
}
