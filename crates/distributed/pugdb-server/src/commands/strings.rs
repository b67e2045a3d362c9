//! Commands on strings. A plain `SET` is a batch; whatever looks before it writes is an update under the key's lock.

use bytes::Bytes;
use pugdb::{Change, EntryOptions, Timestamp};
use pugdb_wire::resp::Reply;

use super::expiry::{TimeUnit, deadline};
use crate::arguments::{at, integer, is, need_integer};
use crate::call::{Call, string_of};
use crate::failure::Failure;
use crate::limits::{FETCH_BYTES, REPLY_BYTES_MAX};
use crate::session::STRING;

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
        for entry in view.entries(now)? {
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

/// Values that are fetched together while nothing is known of their size.
const FIRST_FETCH: usize = 64;

/// What `SET` is asked for beside key and value.
#[derive(Debug, Default, PartialEq, Eq)]
struct SetOptions {
    condition: Option<Condition>,
    expiry: Expiry,
    returns_old: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    IfAbsent,
    IfPresent,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Expiry {
    #[default]
    Never,
    Keep,
    At(Timestamp),
}

/// `SET key value [NX | XX] [GET] [EX seconds | PX milliseconds | EXAT seconds | PXAT milliseconds | KEEPTTL]`
pub(super) fn set(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let (key, value) = (at(arguments, 1)?, at(arguments, 2)?);
    let options = SetOptions::parse(arguments.get(3..).unwrap_or_default(), call.now())?;
    if let SetOptions { condition: None, expiry: Expiry::Never | Expiry::At(_), returns_old: false } = options
    {
        call.put_all(std::iter::once((key, value)), entry_options(options.expiry, None))?;
        return Ok(Reply::OK);
    }
    let keyspace = call.keyspace_to_write()?;
    let (done, old) = call.update(&keyspace, key, |old| {
        let returned = match old {
            Some(old) if options.returns_old && old.meta != STRING => return Err(Failure::WRONG_TYPE),
            Some(old) if options.returns_old => Reply::Bulk(old.value.clone().into_bytes()),
            _ => Reply::Null,
        };
        let refused = match options.condition {
            Some(Condition::IfAbsent) => old.is_some(),
            Some(Condition::IfPresent) => old.is_none(),
            None => false,
        };
        if refused {
            return Ok((Change::Keep, (false, returned)));
        }
        let entry = entry_options(options.expiry, old.and_then(|old| old.expires_at));
        Ok((Change::Put(value.to_vec(), entry), (true, returned)))
    })?;
    Ok(match (options.returns_old, done) {
        (true, _) => old,
        (false, true) => Reply::OK,
        (false, false) => Reply::Null,
    })
}

impl SetOptions {
    fn parse(mut words: &[Bytes], now: Timestamp) -> Result<Self, Failure> {
        let mut options = Self::default();
        while let [word, after @ ..] = words {
            words = after;
            if is(word, "nx") && options.condition != Some(Condition::IfPresent) {
                options.condition = Some(Condition::IfAbsent);
            } else if is(word, "xx") && options.condition != Some(Condition::IfAbsent) {
                options.condition = Some(Condition::IfPresent);
            } else if is(word, "get") {
                options.returns_old = true;
            } else if options.expiry != Expiry::Never {
                // Whatever else there is sets the expiry, and only one may.
                return Err(Failure::SYNTAX);
            } else if is(word, "keepttl") {
                options.expiry = Expiry::Keep;
            } else {
                let (unit, from) = time_of(word, now).ok_or(Failure::SYNTAX)?;
                let ([amount, after @ ..], true) = (after, !after.is_empty()) else {
                    return Err(Failure::SYNTAX);
                };
                words = after;
                let amount = need_integer(amount)?;
                let at = if amount > 0 { deadline(amount, unit, from) } else { None };
                options.expiry = Expiry::At(at.ok_or_else(|| Failure::expiry("set"))?);
            }
        }
        Ok(options)
    }
}

/// The unit of an expiry option, and the moment from which it counts.
fn time_of(word: &[u8], now: Timestamp) -> Option<(TimeUnit, Timestamp)> {
    let start = Timestamp(0);
    let known = [
        ("ex", TimeUnit::Seconds, now),
        ("px", TimeUnit::Milliseconds, now),
        ("exat", TimeUnit::Seconds, start),
        ("pxat", TimeUnit::Milliseconds, start),
    ];
    known.into_iter().find(|(name, ..)| is(word, name)).map(|(_, unit, from)| (unit, from))
}

fn entry_options(expiry: Expiry, old: Option<Timestamp>) -> EntryOptions {
    let expires_at = match expiry {
        Expiry::Never => None,
        Expiry::Keep => old,
        Expiry::At(at) => Some(at),
    };
    EntryOptions { expires_at, meta: STRING }
}

/// `MSET key value [key value ...]`: all or none.
pub(super) fn mset(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let pairs = arguments.get(1..).unwrap_or_default().chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return Err(Failure::arguments("mset"));
    }
    let pairs = pairs.filter_map(|pair| Some((pair.first()?, pair.get(1)?)));
    call.put_all(pairs, EntryOptions { expires_at: None, meta: STRING })?;
    Ok(Reply::OK)
}

/// `INCR key`
pub(super) fn incr(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    add(call, at(arguments, 1)?, 1)
}

/// `DECR key`
pub(super) fn decr(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    add(call, at(arguments, 1)?, -1)
}

/// `INCRBY key increment`
pub(super) fn incrby(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let increment = need_integer(at(arguments, 2)?)?;
    add(call, at(arguments, 1)?, increment)
}

/// `DECRBY key decrement`
pub(super) fn decrby(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let decrement = need_integer(at(arguments, 2)?)?;
    let increment = decrement.checked_neg().ok_or(Failure::new("ERR decrement would overflow"))?;
    add(call, at(arguments, 1)?, increment)
}

/// Adds to the number at a key, whose expiry stays.
fn add(call: &mut Call<'_>, key: &Bytes, increment: i64) -> Result<Reply, Failure> {
    let keyspace = call.keyspace_to_write()?;
    let sum = call.update(&keyspace, key, |old| {
        let (number, expires_at) = match old {
            Some(old) if old.meta != STRING => return Err(Failure::WRONG_TYPE),
            Some(old) => (integer(&old.value).ok_or(Failure::NOT_AN_INTEGER)?, old.expires_at),
            None => (0, None),
        };
        let sum = number.checked_add(increment).ok_or(Failure::OVERFLOW)?;
        Ok((Change::Put(sum.to_string().into_bytes(), EntryOptions { expires_at, meta: STRING }), sum))
    })?;
    Ok(Reply::Integer(sum))
}

// PLACEHOLDERS
pub(super) fn append(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Err(Failure::LATER)
}

pub(super) fn getdel(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Err(Failure::LATER)
}

pub(super) fn getex(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Err(Failure::LATER)
}

pub(super) fn getrange(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Err(Failure::LATER)
}

pub(super) fn getset(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Err(Failure::LATER)
}

pub(super) fn incrbyfloat(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Err(Failure::LATER)
}

pub(super) fn lcs(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Err(Failure::LATER)
}

pub(super) fn msetnx(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Err(Failure::LATER)
}

pub(super) fn psetex(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Err(Failure::LATER)
}

pub(super) fn setex(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Err(Failure::LATER)
}

pub(super) fn setnx(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Err(Failure::LATER)
}

pub(super) fn setrange(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Err(Failure::LATER)
}

pub(super) fn strlen(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Err(Failure::LATER)
}
