//! Commands on strings. A plain `SET` is a batch; whatever looks before it writes is an update under the key's lock.

use bytes::Bytes;
use pugdb::{Change, Entry, EntryOptions, Timestamp};
use pugdb_wire::resp::Reply;

use super::count;
use super::expiry::{TimeUnit, deadline};
use crate::arguments::{at, is, need_integer};
use crate::call::{Call, View, string_of};
use crate::failure::Failure;
use crate::limits::{FETCH_BYTES, REPLY_BYTES_MAX};
use crate::session::{STRING, STRING_OPTIONS};

/// `GET key`
pub(super) fn get(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    Ok(call.string(at(arguments, 1)?)?.map_or(Reply::Null, Reply::Bulk))
}

/// `MGET key [key ...]`: the values at one moment. What is no string is null.
pub(super) fn mget(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let keys = arguments.get(1..).unwrap_or_default();
    let view = call.view()?;
    let mut values = Vec::with_capacity(keys.len());
    let (mut found, mut reply_bytes, mut largest) = (0, 0_usize, FETCH_BYTES / FIRST_FETCH);
    let mut rest = keys;
    while !rest.is_empty() {
        // Values are fetched together, but not so many that they fill memory before anybody has looked at them.
        let (now, later) = rest.split_at((FETCH_BYTES / largest).clamp(1, rest.len()));
        for entry in entries_of(&view, now)? {
            let entry = match entry {
                Ok(entry) => entry,
                Err(erased) => {
                    values.push(erased.to_reply());
                    continue;
                }
            };
            found += usize::from(entry.is_some());
            let bytes = entry.as_ref().map_or(0, |entry| entry.value.len());
            largest = largest.max(bytes);
            reply_bytes = reply_bytes.saturating_add(bytes);
            let string = entry.and_then(|entry| string_of(entry).ok());
            values.push(string.map_or(Reply::Null, Reply::Bulk));
        }
        if reply_bytes > REPLY_BYTES_MAX {
            return Err(Failure::REPLY_TOO_LARGE);
        }
        rest = later;
    }
    call.count_reads(keys.len(), found);
    Ok(Reply::Array(values))
}

/// The entries at some keys, fetched together. What was erased is an error of its own key, and of no other.
fn entries_of(view: &View<'_>, keys: &[Bytes]) -> Result<Vec<Result<Option<Entry>, Failure>>, Failure> {
    let one = |key: &Bytes| match view.entry(key) {
        Err(failure) if !failure.is_erased() => Err(failure),
        found => Ok(found),
    };
    match view.entries(keys) {
        Err(failure) if failure.is_erased() => keys.iter().map(one).collect(),
        found => Ok(found?.into_iter().map(Ok).collect()),
    }
}

/// Values that are fetched together while nothing is known of their size.
const FIRST_FETCH: usize = 64;

/// What `SET` and `GETEX` are asked for beside key and value.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options<'a> {
    condition: Option<Condition>,
    expiry: Expiry<'a>,
    returns_old: bool,
    /// Whom the value is about.
    subject: Option<&'a Bytes>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    IfAbsent,
    IfPresent,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Expiry<'a> {
    /// Nothing is said: never for `SET`, as before for `GETEX`.
    #[default]
    Unsaid,
    /// `KEEPTTL`
    Keep,
    /// `PERSIST`
    Never,
    At(Moment, &'a Bytes),
}

/// How an amount of time is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Moment {
    unit: TimeUnit,
    from: From,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Now,
    Epoch,
}

const EX: Moment = Moment { unit: TimeUnit::Seconds, from: From::Now };
const PX: Moment = Moment { unit: TimeUnit::Milliseconds, from: From::Now };
const EXAT: Moment = Moment { unit: TimeUnit::Seconds, from: From::Epoch };
const PXAT: Moment = Moment { unit: TimeUnit::Milliseconds, from: From::Epoch };

impl Moment {
    fn of(word: &[u8]) -> Option<Self> {
        let known = [("ex", EX), ("px", PX), ("exat", EXAT), ("pxat", PXAT)];
        known.into_iter().find(|(name, _)| is(word, name)).map(|(_, moment)| moment)
    }

    /// The moment for an amount, which is positive.
    fn deadline(self, amount: &[u8], now: Timestamp, command: &str) -> Result<Timestamp, Failure> {
        let amount = need_integer(amount)?;
        let from = if self.from == From::Now { now } else { Timestamp(0) };
        let at = if amount > 0 { deadline(amount, self.unit, from) } else { None };
        at.ok_or_else(|| Failure::expiry(command))
    }
}

/// Whose options are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    Set,
    Getex,
}

impl<'a> Options<'a> {
    /// Words first and numbers later, as Redis does: a word that is wrong is the error, wherever it stands.
    fn parse(mut words: &'a [Bytes], asker: Asker) -> Result<Self, Failure> {
        let mut options = Self::default();
        let is_set = asker == Asker::Set;
        while let [word, after @ ..] = words {
            words = after;
            if is_set && is(word, "nx") && options.condition != Some(Condition::IfPresent) {
                options.condition = Some(Condition::IfAbsent);
            } else if is_set && is(word, "xx") && options.condition != Some(Condition::IfAbsent) {
                options.condition = Some(Condition::IfPresent);
            } else if is_set && is(word, "get") {
                options.returns_old = true;
            } else if is_set && is(word, "subject") && options.subject.is_none() {
                let (name, after) = after.split_first().ok_or(Failure::SYNTAX)?;
                (options.subject, words) = (Some(name), after);
            } else {
                let expiry = if is_set && is(word, "keepttl") {
                    Expiry::Keep
                } else if !is_set && is(word, "persist") {
                    Expiry::Never
                } else {
                    let moment = Moment::of(word).ok_or(Failure::SYNTAX)?;
                    let (amount, after) = after.split_first().ok_or(Failure::SYNTAX)?;
                    words = after;
                    Expiry::At(moment, amount)
                };
                // Only one kind of expiry may be named. The same again replaces the one before.
                if !options.expiry.is_like(expiry) {
                    return Err(Failure::SYNTAX);
                }
                options.expiry = expiry;
            }
        }
        Ok(options)
    }
}

impl Expiry<'_> {
    fn is_like(self, other: Self) -> bool {
        match (self, other) {
            (Self::Unsaid, _) => true,
            (Self::At(one, _), Self::At(other, _)) => one == other,
            _ => self == other,
        }
    }
}

/// `SET key value [NX | XX] [GET] [EX seconds | PX milliseconds | EXAT seconds | PXAT milliseconds | KEEPTTL] [SUBJECT name]`
pub(super) fn set(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let (key, value) = (at(arguments, 1)?, at(arguments, 2)?);
    let options = Options::parse(arguments.get(3..).unwrap_or_default(), Asker::Set)?;
    let expires_at = match options.expiry {
        Expiry::At(moment, amount) => Some(moment.deadline(amount, call.now(), "set")?),
        Expiry::Unsaid | Expiry::Never | Expiry::Keep => None,
    };
    let seal = options.subject.map(|name| call.subject(name)).transpose()?;
    if options.condition.is_none() && options.expiry != Expiry::Keep && !options.returns_old {
        call.put_all(std::iter::once((key, value)), EntryOptions { expires_at, seal, ..STRING_OPTIONS })?;
        return Ok(Reply::OK);
    }
    let keyspace = call.keyspace_to_write()?;
    let (done, returned) = call.update(&keyspace, key, |old| {
        let returned = if options.returns_old { reply_of(old)? } else { Reply::Null };
        let refused = match options.condition {
            Some(Condition::IfAbsent) => old.is_some(),
            Some(Condition::IfPresent) => old.is_none(),
            None => false,
        };
        if refused {
            return Ok((Change::Keep, (false, returned)));
        }
        let kept = old.filter(|_| options.expiry == Expiry::Keep);
        let kept = kept.and_then(|old| EntryOptions::of(old).expires_at);
        let entry = EntryOptions { expires_at: expires_at.or(kept), seal, ..STRING_OPTIONS };
        Ok((Change::Put(value.to_vec(), entry), (true, returned)))
    })?;
    Ok(match (options.returns_old, done) {
        (true, _) => returned,
        (false, true) => Reply::OK,
        (false, false) => Reply::Null,
    })
}

/// `SETNX key value`
pub(super) fn setnx(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let (key, value) = (at(arguments, 1)?, at(arguments, 2)?);
    let keyspace = call.keyspace_to_write()?;
    let set = call.update(&keyspace, key, |old| {
        Ok(if old.is_some() { (Change::Keep, false) } else { (put(value.to_vec()), true) })
    })?;
    Ok(Reply::Integer(i64::from(set)))
}

/// `SETEX key seconds value`
pub(super) fn setex(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    set_to_expire(call, arguments, EX, "setex")
}

/// `PSETEX key milliseconds value`
pub(super) fn psetex(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    set_to_expire(call, arguments, PX, "psetex")
}

fn set_to_expire(
    call: &mut Call<'_>,
    arguments: &[Bytes],
    moment: Moment,
    command: &str,
) -> Result<Reply, Failure> {
    let expires_at = Some(moment.deadline(at(arguments, 2)?, call.now(), command)?);
    let entry = std::iter::once((at(arguments, 1)?, at(arguments, 3)?));
    call.put_all(entry, EntryOptions { expires_at, ..STRING_OPTIONS })?;
    Ok(Reply::OK)
}

/// `GETSET key value`: the expiry is gone, as after `SET`.
pub(super) fn getset(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let (key, value) = (at(arguments, 1)?, at(arguments, 2)?);
    let keyspace = call.keyspace_to_write()?;
    let old = call.update(&keyspace, key, |old| Ok((put(value.to_vec()), reply_of(old)?)));
    counted(call, old)
}

/// `GETDEL key`
pub(super) fn getdel(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let Some(keyspace) = call.keyspace()? else { return counted(call, Ok(Reply::Null)) };
    let old = call.update(&keyspace, at(arguments, 1)?, |old| {
        let change = if old.is_some() { Change::Delete } else { Change::Keep };
        Ok((change, reply_of(old)?))
    });
    counted(call, old)
}

/// `GETEX key [EX seconds | PX milliseconds | EXAT seconds | PXAT milliseconds | PERSIST]`
pub(super) fn getex(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let expiry = Options::parse(arguments.get(2..).unwrap_or_default(), Asker::Getex)?.expiry;
    if expiry == Expiry::Unsaid {
        return get(call, arguments);
    }
    let Some(keyspace) = call.keyspace()? else { return counted(call, Ok(Reply::Null)) };
    let now = call.now();
    let value = call.update(&keyspace, at(arguments, 1)?, |old| {
        let reply = reply_of(old)?;
        let Some(old) = old else { return Ok((Change::Keep, reply)) };
        let expires_at = match expiry {
            Expiry::At(moment, amount) => Some(moment.deadline(amount, now, "getex")?),
            Expiry::Unsaid | Expiry::Keep | Expiry::Never => None,
        };
        let change = if expires_at.is_some_and(|at| at <= now) {
            Change::Delete
        } else if expires_at == old.expires_at {
            Change::Keep
        } else {
            let expires_at = expires_at.or(Some(Timestamp::NEVER));
            Change::Put(old.value.to_vec(), EntryOptions { expires_at, ..EntryOptions::of(old) })
        };
        Ok((change, reply))
    });
    counted(call, value)
}

/// The string in an entry that is there, null for none.
fn reply_of(entry: Option<&Entry>) -> Result<Reply, Failure> {
    let string = entry.cloned().map(string_of).transpose()?;
    Ok(string.map_or(Reply::Null, Reply::Bulk))
}

/// Counts a reply with the value of a key as a read.
fn counted(call: &Call<'_>, reply: Result<Reply, Failure>) -> Result<Reply, Failure> {
    call.count_reads(1, usize::from(!matches!(reply, Ok(Reply::Null))));
    reply
}

fn put(value: Vec<u8>) -> Change {
    Change::Put(value, STRING_OPTIONS)
}

/// `MSET key value [key value ...]`: all or none.
pub(super) fn mset(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    call.put_all(pairs(arguments, "mset")?, STRING_OPTIONS)?;
    Ok(Reply::OK)
}

/// `MSETNX key value [key value ...]`: all, or none if one of them exists.
pub(super) fn msetnx(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let pairs = pairs(arguments, "msetnx")?;
    let keyspace = call.keyspace_to_write()?;
    let keys: Vec<_> = pairs.clone().map(|(key, _)| (keyspace.clone(), key.as_ref())).collect();
    let set = call.update_keys(&keys, |locked| {
        for (keyspace, key) in &keys {
            if locked.get_entry(keyspace, key)?.is_some() {
                return Ok(false);
            }
        }
        for (key, value) in pairs {
            locked.put_with(&keyspace, key, value, STRING_OPTIONS)?;
        }
        Ok(true)
    })?;
    Ok(Reply::Integer(i64::from(set)))
}

/// Keys with their values, which end together.
fn pairs<'a>(
    arguments: &'a [Bytes],
    command: &str,
) -> Result<impl Iterator<Item = (&'a Bytes, &'a Bytes)> + Clone + use<'a>, Failure> {
    let pairs = arguments.get(1..).unwrap_or_default().chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return Err(Failure::arguments(command));
    }
    Ok(pairs.filter_map(|pair| Some((pair.first()?, pair.get(1)?))))
}

/// `APPEND key value`: the length. The expiry stays.
pub(super) fn append(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let (key, more) = (at(arguments, 1)?, at(arguments, 2)?);
    let (keyspace, bytes_max) = (call.keyspace_to_write()?, call.value_bytes_max());
    let length = call.update(&keyspace, key, |old| {
        let (string, options) = old_string(old)?;
        let length = checked_length(string.len(), more.len(), bytes_max)?;
        let mut value = Vec::with_capacity(length);
        value.extend_from_slice(string);
        value.extend_from_slice(more);
        Ok((Change::Put(value, options), length))
    })?;
    Ok(count(length))
}

/// `STRLEN key`
pub(super) fn strlen(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    Ok(count(call.string(at(arguments, 1)?)?.map_or(0, |string| string.len())))
}

/// `SETRANGE key offset value`: the length. The expiry stays.
pub(super) fn setrange(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let (key, part) = (at(arguments, 1)?, at(arguments, 3)?);
    let offset = need_integer(at(arguments, 2)?)?;
    let offset = u64::try_from(offset).map_err(|_| Failure::new("ERR offset is out of range"))?;
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    let (keyspace, bytes_max) = (call.keyspace_to_write()?, call.value_bytes_max());
    let length = call.update(&keyspace, key, |old| {
        let (string, options) = old_string(old)?;
        if part.is_empty() {
            return Ok((Change::Keep, string.len()));
        }
        let end = checked_length(offset, part.len(), bytes_max)?;
        let mut value = Vec::with_capacity(end.max(string.len()));
        value.extend_from_slice(string);
        value.resize(end.max(string.len()), 0);
        if let Some(place) = value.get_mut(offset..end) {
            place.copy_from_slice(part);
        }
        let length = value.len();
        Ok((Change::Put(value, options), length))
    })?;
    Ok(count(length))
}

/// `GETRANGE key start end`, `SUBSTR key start end`: both ends count, and negative ones from the end.
pub(super) fn getrange(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let (start, end) = (need_integer(at(arguments, 2)?)?, need_integer(at(arguments, 3)?)?);
    let string = call.string(at(arguments, 1)?)?.unwrap_or_default();
    let part = places(start, end, string.len()).map(|(start, end)| string.slice(start..=end));
    Ok(Reply::Bulk(part.unwrap_or_default()))
}

/// The first and the last of `length` places that Redis's two indices name; `None` for no place.
pub(super) fn places(start: i64, end: i64, length: usize) -> Option<(usize, usize)> {
    if start < 0 && end < 0 && start > end {
        return None;
    }
    let length = i64::try_from(length).ok()?;
    let from_end = |index: i64| if index < 0 { index.saturating_add(length).max(0) } else { index };
    let (start, end) = (from_end(start), from_end(end).min(length - 1));
    if start > end { None } else { Some((usize::try_from(start).ok()?, usize::try_from(end).ok()?)) }
}

/// The string that is about to change, empty if there is none, and what of it stays: its expiry.
pub(super) fn old_string(old: Option<&Entry>) -> Result<(&[u8], EntryOptions), Failure> {
    match old {
        Some(old) if old.meta != STRING => Err(Failure::WRONG_TYPE),
        Some(old) => Ok((&old.value, EntryOptions::of(old))),
        None => Ok((&[], STRING_OPTIONS)),
    }
}

/// The length of a string that grows, if it may be so long.
pub(super) fn checked_length(bytes: usize, more: usize, bytes_max: usize) -> Result<usize, Failure> {
    bytes.checked_add(more).filter(|length| *length <= bytes_max).ok_or(Failure::STRING_TOO_LONG)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &'static str, asker: Asker) -> Result<String, Failure> {
        let words: Vec<Bytes> = words.split_whitespace().map(Bytes::from).collect();
        Options::parse(&words, asker).map(|options| format!("{options:?}"))
    }

    #[test]
    fn one_kind_of_expiry_may_be_named_and_named_again() {
        for fine in [
            "EX 1 EX 2",
            "KEEPTTL keepttl",
            "PXAT x NX",
            "GET XX xx",
            "EX EX",
            "SUBJECT ada NX",
            "subject SUBJECT get",
        ] {
            assert!(parse(fine, Asker::Set).is_ok(), "{fine}");
        }
        for wrong in [
            "EX 1 PX 1",
            "EX 1 KEEPTTL",
            "KEEPTTL EX 1",
            "EX",
            "PERSIST",
            "NX XX",
            "EX 1 EXAT 1",
            "1",
            "SUBJECT",
            "SUBJECT a SUBJECT a",
        ] {
            assert_eq!(parse(wrong, Asker::Set), Err(Failure::SYNTAX), "{wrong}");
        }
        for fine in ["", "PERSIST PERSIST", "EXAT 1"] {
            assert!(parse(fine, Asker::Getex).is_ok(), "{fine}");
        }
        for wrong in ["NX", "GET", "KEEPTTL", "PERSIST EX 1", "EX 1 PERSIST", "PX", "SUBJECT a"] {
            assert_eq!(parse(wrong, Asker::Getex), Err(Failure::SYNTAX), "{wrong}");
        }
    }

    #[test]
    fn places_count_from_both_ends_as_in_redis() {
        for ((start, end), expected) in [
            ((0, -1), Some((0, 4))),
            ((1, 2), Some((1, 2))),
            ((-3, -2), Some((2, 3))),
            ((-9, 9), Some((0, 4))),
            ((0, -9), Some((0, 0))),
            ((-2, -3), None),
            ((-9, -10), None),
            ((3, 2), None),
            ((5, 9), None),
            ((i64::MIN, i64::MAX), Some((0, 4))),
            ((i64::MAX, i64::MAX), None),
        ] {
            assert_eq!(places(start, end, 5), expected, "{start} {end}");
        }
        assert_eq!(places(0, -1, 0), None);
        assert_eq!(places(0, 0, 0), None);
    }
}
