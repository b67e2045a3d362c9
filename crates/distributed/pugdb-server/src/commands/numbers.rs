//! Commands on strings that are numbers: 64-bit integers, and decimal fractions.

use bytes::Bytes;
use pugdb::{Change, EntryOptions};
use pugdb_wire::resp::Reply;

use super::strings::old_string;
use super::text;
use crate::arguments::{at, integer, need_integer};
use crate::call::Call;
use crate::decimal::Decimal;
use crate::failure::Failure;
use crate::session::{STRING, STRING_OPTIONS};

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
        let (number, options) = match old {
            Some(old) if old.meta != STRING => return Err(Failure::WRONG_TYPE),
            Some(old) => (integer(&old.value).ok_or(Failure::NOT_AN_INTEGER)?, EntryOptions::of(old)),
            None => (0, STRING_OPTIONS),
        };
        let sum = number.checked_add(increment).ok_or(Failure::OVERFLOW)?;
        Ok((Change::Put(sum.to_string().into_bytes(), options), sum))
    })?;
    Ok(Reply::Integer(sum))
}

/// `INCRBYFLOAT key increment`: in decimal digits, so that 0.1 and 0.2 make 0.3. The expiry stays.
pub(super) fn incrbyfloat(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let (key, increment) = (at(arguments, 1)?, at(arguments, 2)?);
    let keyspace = call.keyspace_to_write()?;
    let sum = call.update(&keyspace, key, |old| {
        let (string, options) = old_string(old)?;
        let number = if old.is_some() { string } else { b"0" };
        let (number, increment) = (need_decimal(number)?, need_decimal(increment)?);
        let sum = number.plus(&increment).and_then(|sum| sum.to_text());
        let sum = sum.ok_or(Failure::new("ERR increment would produce NaN or Infinity"))?;
        Ok((Change::Put(sum.clone().into_bytes(), options), sum))
    })?;
    Ok(text(sum))
}

fn need_decimal(number: &[u8]) -> Result<Decimal, Failure> {
    Decimal::parse(number).ok_or(Failure::new("ERR value is not a valid float"))
}
