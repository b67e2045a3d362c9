//! Commands on keys, whatever they hold, and on whole databases.

use std::hash::{BuildHasher, RandomState};
use std::ops::{Bound, RangeInclusive};

use bytes::Bytes;
use pugdb::{Change, Entry, EntryOptions, ErrorKind, Key, KeyRange, Keyspace, glob};
use pugdb_wire::resp::Reply;

use super::{count, need_integer_in, permit};
use crate::arguments::{at, integer, is};
use crate::call::{Call, View};
use crate::failure::Failure;
use crate::limits::{DATABASES, RANDOM_KEY_DRAWS, RANDOM_KEY_STEPS, REPLY_BYTES_MAX};
use crate::session::STRING;

/// `DEL key [key ...]`, `UNLINK key [key ...]`: how many there were.
pub(super) fn del(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let Some(keyspace) = call.keyspace()? else { return Ok(Reply::Integer(0)) };
    if let [_, key] = arguments {
        let existed = call.update(&keyspace, key, |old| {
            Ok(if old.is_some() { (Change::Delete, true) } else { (Change::Keep, false) })
        });
        if !existed.as_ref().is_err_and(Failure::is_erased) {
            return Ok(Reply::Integer(i64::from(existed?)));
        }
    }
    let keys: Vec<_> = arguments.iter().skip(1).map(|key| (keyspace.clone(), key.as_ref())).collect();
    let deleted = call.update_keys(&keys, |locked| {
        let mut deleted = 0;
        for (keyspace, key) in &keys {
            if is_there(locked.get_entry(keyspace, key))? {
                locked.delete(keyspace, key)?;
                deleted += 1;
            }
        }
        Ok(deleted)
    })?;
    Ok(count(deleted))
}

/// What nobody can read any more is there all the same.
fn is_there(found: pugdb::Result<Option<Entry>>) -> pugdb::Result<bool> {
    match found {
        Err(error) if error.kind() == ErrorKind::Erased => Ok(true),
        found => Ok(found?.is_some()),
    }
}

/// `EXISTS key [key ...]`, `TOUCH key [key ...]`: a key that is named twice counts twice.
pub(super) fn exists(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let keys = arguments.get(1..).unwrap_or_default();
    let mut found = 0;
    let view = call.view()?;
    for key in keys {
        found += usize::from(view.exists(key)?);
    }
    call.count_reads(keys.len(), found);
    Ok(count(found))
}

/// `TYPE key`
pub(super) fn type_of(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    Ok(Reply::simple(call.entry(at(arguments, 1)?)?.map_or("none", |entry| type_name(entry.meta))))
}

/// The type that a meta byte stands for.
pub(super) fn type_name(meta: u8) -> &'static str {
    if meta == STRING { "string" } else { "unknown" }
}

/// `DBSIZE`. Exact, of what the user may see.
pub(super) fn dbsize(call: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    let sight = permit::sight(call, "dbsize");
    if sight.sees_all() {
        return Ok(Reply::Integer(i64::try_from(call.count_keys()?).unwrap_or(i64::MAX)));
    }
    let view = call.view()?;
    let (mut scan, mut seen) = (view.scan(KeyRange::all())?, 0);
    while let Some((key, _)) = scan.next_entry()? {
        seen += usize::from(sight.sees(&key));
    }
    Ok(count(seen))
}

/// `FLUSHDB [ASYNC | SYNC]`
pub(super) fn flushdb(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    check_flush_option(arguments)?;
    let databases = call.database..=call.database;
    flush(call, databases)
}

/// `FLUSHALL [ASYNC | SYNC]`: the databases that `SELECT` reaches, in one step. Other keyspaces are not Redis's to remove.
pub(super) fn flushall(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    check_flush_option(arguments)?;
    flush(call, 0..=DATABASES - 1)
}

fn flush(call: &mut Call<'_>, databases: RangeInclusive<usize>) -> Result<Reply, Failure> {
    let keyspaces: Vec<Option<Keyspace>> =
        databases.map(|database| call.keyspace_of(database)).collect::<Result<_, _>>()?;
    call.update_everything(|locked| {
        for keyspace in keyspaces.iter().flatten() {
            locked.truncate(keyspace)?;
        }
        Ok(Reply::OK)
    })
}

/// Both ways are the same here: the keys are gone at once and their space comes back later.
fn check_flush_option(arguments: &[Bytes]) -> Result<(), Failure> {
    match arguments {
        [_] => Ok(()),
        [_, option] if is(option, "async") || is(option, "sync") => Ok(()),
        _ => Err(Failure::SYNTAX),
    }
}

/// `KEYS pattern`
pub(super) fn keys(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let (pattern, sight) = (at(arguments, 1)?, permit::sight(call, "keys"));
    let view = call.view()?;
    let mut scan = view.scan(KeyRange::prefix(glob::literal_prefix(pattern)))?;
    let (mut keys, mut bytes) = (Vec::new(), 0_usize);
    while let Some((key, _)) = scan.next_entry()? {
        if !glob::matches(pattern, &key) || !sight.sees(&key) {
            continue;
        }
        bytes += key.len() + size_of::<Reply>();
        if bytes > REPLY_BYTES_MAX {
            return Err(Failure::REPLY_TOO_LARGE);
        }
        // Copied: a key may be a part of a whole block, and there may be very many.
        keys.push(Reply::Bulk(Bytes::copy_from_slice(&key)));
    }
    Ok(Reply::Array(keys))
}

/// `RANDOMKEY`
pub(super) fn randomkey(call: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    let seeds = RandomState::new();
    let mut step = 0_u64;
    let mut random = || {
        step += 1;
        seeds.hash_one(step)
    };
    let (view, sight) = (call.view()?, permit::sight(call, "randomkey"));
    let mut found = random_key(&view, &mut random)?;
    // Some draws for who sees little, and then the first key that it sees.
    for _ in 0..RANDOM_KEY_DRAWS {
        match &found {
            Some(key) if !sight.sees(key) => found = random_key(&view, &mut random)?,
            _ => break,
        }
    }
    if found.as_ref().is_some_and(|key| !sight.sees(key)) {
        let mut scan = view.scan(KeyRange::all())?;
        found = loop {
            match scan.next_entry()? {
                Some((key, _)) if !sight.sees(&key) => {}
                next => break next.map(|(key, _)| key),
            }
        };
    }
    Ok(found.map_or(Reply::Null, |key| Reply::Bulk(key.into_bytes())))
}

/// Goes down from the empty prefix, at each fork in a random direction. So every key can come, and those of a form such
/// as `user:000001` about equally often.
fn random_key(view: &View<'_>, mut random: impl FnMut() -> u64) -> Result<Option<Key>, Failure> {
    let mut prefix = Vec::new();
    let (mut first, mut second) = view.first_keys(KeyRange::all())?;
    for _ in 0..RANDOM_KEY_STEPS {
        let (Some(lowest), Some(_)) = (&first, &second) else { break };
        let range = KeyRange::prefix(&prefix);
        let highest = view.last_key(range.clone())?;
        if let Some(highest) = &highest {
            // What all keys share is no fork.
            let shared = lowest.iter().zip(highest.iter()).take_while(|(one, other)| one == other).count();
            prefix = lowest.get(..shared).unwrap_or_default().to_vec();
        }
        // The key that ends here is a direction too.
        let low = lowest.get(prefix.len()).map_or(-1, |byte| i16::from(*byte));
        let high = highest.as_ref().and_then(|highest| highest.get(prefix.len()));
        let high = high.map_or(i16::from(u8::MAX), |byte| i16::from(*byte));
        let directions = u64::try_from(high - low + 1).unwrap_or(1).max(1);
        let direction = i64::from(low) + i64::try_from(random() % directions).unwrap_or(0);
        let Ok(byte) = u8::try_from(direction) else { break };
        let fork = prefix.len();
        prefix.push(byte);
        let start = Bound::Included(prefix.clone());
        let (found, _) = view.first_keys(KeyRange { start, end: range.end })?;
        // Nothing lies there or behind: back to the lowest, with which every fork begins.
        let found = found.as_ref().unwrap_or(lowest);
        let Some(taken) = found.get(..=fork) else { break };
        prefix = taken.to_vec();
        (first, second) = view.first_keys(KeyRange::prefix(&prefix))?;
    }
    Ok(first)
}

/// `RENAME key newkey`
pub(super) fn rename(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    rename_key(call, arguments, Taken::IsReplaced)?;
    Ok(Reply::OK)
}

/// `RENAMENX key newkey`
pub(super) fn renamenx(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    Ok(Reply::Integer(i64::from(rename_key(call, arguments, Taken::Stays)?)))
}

/// What happens to a key in whose place another one is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    IsReplaced,
    Stays,
}

/// Whether the key has got its new name.
fn rename_key(call: &mut Call<'_>, arguments: &[Bytes], taken: Taken) -> Result<bool, Failure> {
    let keyspace = call.keyspace()?.ok_or(Failure::NO_SUCH_KEY)?;
    let from = (keyspace.clone(), at(arguments, 1)?.as_ref());
    let to = (keyspace, at(arguments, 2)?.as_ref());
    transfer(call, &from, &to, Transfer { taken, is_move: true })?.ok_or(Failure::NO_SUCH_KEY)
}

/// `MOVE key index`
pub(super) fn move_key(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let key = at(arguments, 1)?.as_ref();
    let database = need_integer_in(arguments.get(2), DATABASES)?;
    if database == call.database {
        return Err(Failure::SAME_OBJECT);
    }
    let Some(source) = call.keyspace()? else { return Ok(Reply::Integer(0)) };
    let target = call.keyspace_to_write_of(database)?;
    let how = Transfer { taken: Taken::Stays, is_move: true };
    let moved = transfer(call, &(source, key), &(target, key), how)?;
    Ok(Reply::Integer(i64::from(moved == Some(true))))
}

/// `COPY source destination [DB index] [REPLACE]`
pub(super) fn copy(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let (from, to) = (at(arguments, 1)?, at(arguments, 2)?);
    let (mut database, mut taken) = (call.database, Taken::Stays);
    let mut words = arguments.get(3..).unwrap_or_default();
    while let [word, after @ ..] = words {
        words = match after {
            after if is(word, "replace") => {
                taken = Taken::IsReplaced;
                after
            }
            [index, after @ ..] if is(word, "db") => {
                database = need_integer_in(Some(index), DATABASES)?;
                after
            }
            _ => return Err(Failure::SYNTAX),
        };
    }
    if database == call.database && from == to {
        return Err(Failure::SAME_OBJECT);
    }
    let Some(source) = call.keyspace()? else { return Ok(Reply::Integer(0)) };
    let target = call.keyspace_to_write_of(database)?;
    let how = Transfer { taken, is_move: false };
    let copied = transfer(call, &(source, from.as_ref()), &(target, to.as_ref()), how)?;
    Ok(Reply::Integer(i64::from(copied == Some(true))))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Transfer {
    taken: Taken,
    /// The key leaves its old place.
    is_move: bool,
}

/// Puts what is at one key to another one too, with its expiry. `None` if there is nothing, false if it may not be.
fn transfer(
    call: &mut Call<'_>,
    from: &(Keyspace, &[u8]),
    to: &(Keyspace, &[u8]),
    how: Transfer,
) -> Result<Option<bool>, Failure> {
    let ((source, from_key), (target, to_key)) = (from, to);
    call.update_keys(&[from.clone(), to.clone()], |locked| {
        let Some(entry) = locked.get_entry(source, from_key)? else { return Ok(None) };
        let is_same = source.id() == target.id() && from_key == to_key;
        if is_same {
            return Ok(Some(how.taken == Taken::IsReplaced));
        }
        if how.taken == Taken::Stays && locked.get_entry(target, to_key)?.is_some() {
            return Ok(Some(false));
        }
        locked.put_with(target, to_key, &entry.value, EntryOptions::of(&entry))?;
        if how.is_move {
            locked.delete(source, from_key)?;
        }
        Ok(Some(true))
    })
}

/// `SWAPDB index1 index2`
pub(super) fn swapdb(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let number = |argument: &Bytes| integer(argument).and_then(|number| i32::try_from(number).ok());
    let one = number(at(arguments, 1)?).ok_or(Failure::new("ERR invalid first DB index"))?;
    let other = number(at(arguments, 2)?).ok_or(Failure::new("ERR invalid second DB index"))?;
    let database = |number| usize::try_from(number).ok().filter(|database| *database < DATABASES);
    let (Some(one), Some(other)) = (database(one), database(other)) else {
        return Err(Failure::NO_SUCH_DATABASE);
    };
    if one == other {
        return Ok(Reply::OK);
    }
    let (one, other) = (call.keyspace_to_write_of(one)?, call.keyspace_to_write_of(other)?);
    call.update_everything(|locked| {
        locked.swap_names(&one, &other)?;
        Ok(Reply::OK)
    })
}

/// The databases that a command names beside the selected one, whether it can run or not.
pub(super) fn named_databases(command: &str, arguments: &[Bytes]) -> Vec<usize> {
    let behind = arguments.get(1..).unwrap_or_default();
    let indices = match command {
        "move" => behind.get(1..),
        "swapdb" => Some(behind),
        // Any that is a number: a word before it says `DB`.
        "copy" => behind.get(2..),
        _ => None,
    };
    let indices = indices.unwrap_or_default().iter();
    indices.filter_map(|index| need_integer_in(Some(index), DATABASES).ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use pugdb::Database;

    use super::*;

    #[test]
    fn every_key_can_come_at_random_and_those_of_one_form_about_equally_often() {
        let db = Database::in_memory().unwrap();
        let keyspace = db.keyspace("db0").unwrap();
        assert!(random_key(&View::of_now(&keyspace), || 0).unwrap().is_none());
        let odd: [&[u8]; 8] = [b"", b"\0", b"\0\0", b"a", b"ab", b"abc", b"\xff", b"\xff\xff\xff"];
        let even = (0..100).map(|number| format!("user:{number:04}").into_bytes());
        for keys in [odd.map(<[u8]>::to_vec).to_vec(), even.collect()] {
            keyspace.truncate().unwrap();
            for key in &keys {
                keyspace.put(key, b"").unwrap();
            }
            let view = View::of_now(&keyspace);
            let (mut seed, mut drawn) = (1_u64, BTreeMap::<Vec<u8>, u32>::new());
            let mut random = || {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                seed >> 33
            };
            for _ in 0..5_000 {
                *drawn.entry(random_key(&view, &mut random).unwrap().unwrap().to_vec()).or_default() += 1;
            }
            assert!(drawn.keys().eq(&keys), "{} of {} keys came", drawn.len(), keys.len());
            if keys.len() == 100 {
                assert!(drawn.values().all(|times| (20..90).contains(times)), "{drawn:?}");
            }
        }
    }

    #[test]
    fn a_transaction_knows_the_databases_that_its_commands_name() {
        let named = |line: &str| {
            let words: Vec<Bytes> =
                line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
            named_databases(&line[..line.find(' ').unwrap()], &words)
        };
        assert_eq!(named("move 3 5"), [5]);
        assert_eq!(named("swapdb 1 15"), [1, 15]);
        assert_eq!(named("copy 1 2 replace DB 7"), [7]);
        assert_eq!(named("move a x"), [0; 0]);
        assert_eq!(named("rename 1 2"), [0; 0]);
    }
}
