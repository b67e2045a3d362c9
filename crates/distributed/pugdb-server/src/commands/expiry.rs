//! Commands on the time at which a key expires.

use bytes::Bytes;
use pugdb::{Change, Entry, EntryOptions, Timestamp};
use pugdb_wire::resp::Reply;

use crate::arguments::{at, is, need_integer};
use crate::call::Call;
use crate::failure::Failure;

/// What an amount of time is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimeUnit {
    Seconds,
    Milliseconds,
}

/// When an amount of time has passed from a moment on; times before 1970 are 1970. `None` when a signed 64-bit number
/// of milliseconds does not reach so far.
pub(super) fn deadline(amount: i64, unit: TimeUnit, from: Timestamp) -> Option<Timestamp> {
    let milliseconds = match unit {
        TimeUnit::Seconds => amount.checked_mul(1000)?,
        TimeUnit::Milliseconds => amount,
    };
    let at = i64::try_from(from.0).ok()?.checked_add(milliseconds)?;
    Some(Timestamp(u64::try_from(at).unwrap_or(0)))
}

/// `EXPIRE key seconds [NX | XX | GT | LT]`
pub(super) fn expire(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let now = call.now();
    expire_from(call, arguments, now, TimeUnit::Seconds, "expire")
}

/// `PEXPIRE key milliseconds [NX | XX | GT | LT]`
pub(super) fn pexpire(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let now = call.now();
    expire_from(call, arguments, now, TimeUnit::Milliseconds, "pexpire")
}

/// `EXPIREAT key seconds [NX | XX | GT | LT]`
pub(super) fn expireat(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    expire_from(call, arguments, Timestamp(0), TimeUnit::Seconds, "expireat")
}

/// `PEXPIREAT key milliseconds [NX | XX | GT | LT]`
pub(super) fn pexpireat(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    expire_from(call, arguments, Timestamp(0), TimeUnit::Milliseconds, "pexpireat")
}

/// Under which circumstances an expiry is set.
#[expect(clippy::struct_excessive_bools, reason = "four words of the command, each there or not")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct When {
    /// NX: there is none yet.
    absent: bool,
    /// XX: there is one.
    present: bool,
    /// GT: it is later than the present one, where none is the end of time.
    later: bool,
    /// LT: it is earlier.
    earlier: bool,
}

impl When {
    fn parse(words: &[Bytes]) -> Result<Self, Failure> {
        let mut when = Self::default();
        for word in words {
            let known = [
                ("nx", &mut when.absent),
                ("xx", &mut when.present),
                ("gt", &mut when.later),
                ("lt", &mut when.earlier),
            ];
            let found = known.into_iter().find(|(name, _)| is(word, name));
            *found.ok_or(Failure::new("ERR Unsupported option"))?.1 = true;
        }
        if when.absent && (when.present || when.later || when.earlier) {
            return Err(Failure::new("ERR NX and XX, GT or LT options at the same time are not compatible"));
        }
        if when.later && when.earlier {
            return Err(Failure::new("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(when)
    }

    fn allows(self, old: Option<Timestamp>, new: Timestamp) -> bool {
        let refused = self.absent && old.is_some()
            || self.present && old.is_none()
            || self.later && old.is_none_or(|old| new <= old)
            || self.earlier && old.is_some_and(|old| new >= old);
        !refused
    }
}

fn expire_from(
    call: &mut Call<'_>,
    arguments: &[Bytes],
    from: Timestamp,
    unit: TimeUnit,
    command: &str,
) -> Result<Reply, Failure> {
    let when = When::parse(arguments.get(3..).unwrap_or_default())?;
    let amount = need_integer(at(arguments, 2)?)?;
    let now = call.now();
    let expires_at = deadline(amount, unit, from).ok_or_else(|| Failure::expiry(command))?;
    change_expiry(call, at(arguments, 1)?, |old| {
        if !when.allows(old.expires_at, expires_at) {
            return Change::Keep;
        }
        if expires_at <= now { Change::Delete } else { with_expiry(old, expires_at) }
    })
}

/// `PERSIST key`
pub(super) fn persist(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    change_expiry(call, at(arguments, 1)?, |old| {
        if old.expires_at.is_some() { with_expiry(old, Timestamp::NEVER) } else { Change::Keep }
    })
}

fn with_expiry(old: &Entry, expires_at: Timestamp) -> Change {
    Change::Put(old.value.to_vec(), EntryOptions { expires_at: Some(expires_at), ..EntryOptions::of(old) })
}

/// Changes a key that exists; 1 if it did, 0 if nothing was to be done.
fn change_expiry(
    call: &mut Call<'_>,
    key: &Bytes,
    decide: impl FnOnce(&Entry) -> Change,
) -> Result<Reply, Failure> {
    let Some(keyspace) = call.keyspace()? else { return Ok(Reply::Integer(0)) };
    let changed = call.update(&keyspace, key, |old| {
        let change = old.map_or(Change::Keep, decide);
        let changed = change != Change::Keep;
        Ok((change, changed))
    })?;
    Ok(Reply::Integer(i64::from(changed)))
}

/// `TTL key`
pub(super) fn ttl(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    Ok(Reply::Integer(in_seconds(time_left(call, at(arguments, 1)?)?)))
}

/// `PTTL key`
pub(super) fn pttl(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    Ok(Reply::Integer(time_left(call, at(arguments, 1)?)?))
}

/// In milliseconds; -1 for ever, -2 for no key.
fn time_left(call: &Call<'_>, key: &Bytes) -> Result<i64, Failure> {
    let Some(entry) = call.entry(key)? else { return Ok(-2) };
    let Some(expires_at) = entry.expires_at else { return Ok(-1) };
    Ok(i64::try_from(expires_at.0.saturating_sub(call.now().0)).unwrap_or(i64::MAX))
}

/// `EXPIRETIME key`
pub(super) fn expiretime(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    Ok(Reply::Integer(in_seconds(time_of_expiry(call, at(arguments, 1)?)?)))
}

/// `PEXPIRETIME key`
pub(super) fn pexpiretime(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    Ok(Reply::Integer(time_of_expiry(call, at(arguments, 1)?)?))
}

/// In milliseconds of the calendar; -1 for never, -2 for no key.
fn time_of_expiry(call: &Call<'_>, key: &Bytes) -> Result<i64, Failure> {
    let Some(entry) = call.entry(key)? else { return Ok(-2) };
    Ok(entry.expires_at.map_or(-1, |at| i64::try_from(at.0).unwrap_or(i64::MAX)))
}

/// Rounded, as Redis rounds. Negative numbers are no times.
fn in_seconds(milliseconds: i64) -> i64 {
    if milliseconds < 0 { milliseconds } else { milliseconds.saturating_add(500) / 1000 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_reached_or_refused() {
        let now = Timestamp(1_000);
        assert_eq!(deadline(2, TimeUnit::Seconds, now), Some(Timestamp(3_000)));
        assert_eq!(deadline(-2, TimeUnit::Seconds, now), Some(Timestamp(0)));
        assert_eq!(deadline(i64::MAX / 1000 + 1, TimeUnit::Seconds, now), None);
        assert_eq!(deadline(i64::MAX, TimeUnit::Milliseconds, now), None);
        assert_eq!(deadline(i64::MIN, TimeUnit::Milliseconds, now), Some(Timestamp(0)));
    }

    #[test]
    fn no_expiry_is_the_end_of_time() {
        let (later, earlier) =
            (When { later: true, ..When::default() }, When { earlier: true, ..When::default() });
        let (old, new) = (Some(Timestamp(5)), Timestamp(6));
        assert!(later.allows(old, new) && !later.allows(None, new) && !later.allows(Some(new), new));
        assert!(!earlier.allows(old, new) && earlier.allows(None, new) && !earlier.allows(Some(new), new));
    }
}
