//! `DUMP` and `RESTORE`: a key as bytes that Redis understands, and back.

use bytes::Bytes;
use pugdb::{Change, EntryOptions};
use pugdb_wire::rdb::{DumpError, dump_string, restore_string};
use pugdb_wire::resp::Reply;

use super::expiry::{TimeUnit, deadline};
use super::unhurried;
use crate::arguments::{at, is, need_integer};
use crate::call::Call;
use crate::failure::Failure;
use crate::session::STRING_OPTIONS;

/// `DUMP key`
pub(super) fn dump(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let Some(string) = call.string(at(arguments, 1)?)? else { return Ok(Reply::Null) };
    Ok(Reply::Bulk(unhurried(string.len(), || dump_string(&string)).into()))
}

/// What `RESTORE` is asked for beside key, time and dump.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    replaces: bool,
    /// The time is one of the calendar.
    is_absolute: bool,
}

impl Options {
    /// How long a key was idle, and how often it was used, is checked and forgotten: nothing is evicted here.
    fn parse(mut words: &[Bytes]) -> Result<Self, Failure> {
        let mut options = Self::default();
        let (mut has_idle_time, mut has_frequency) = (false, false);
        while let [word, after @ ..] = words {
            words = match after {
                after if is(word, "replace") => {
                    options.replaces = true;
                    after
                }
                after if is(word, "absttl") => {
                    options.is_absolute = true;
                    after
                }
                [seconds, after @ ..] if is(word, "idletime") && !has_frequency => {
                    if need_integer(seconds)? < 0 {
                        return Err(Failure::new("ERR Invalid IDLETIME value, must be >= 0"));
                    }
                    has_idle_time = true;
                    after
                }
                [frequency, after @ ..] if is(word, "freq") && !has_idle_time => {
                    if !(0..=255).contains(&need_integer(frequency)?) {
                        return Err(Failure::new("ERR Invalid FREQ value, must be >= 0 and <= 255"));
                    }
                    has_frequency = true;
                    after
                }
                _ => return Err(Failure::SYNTAX),
            };
        }
        Ok(options)
    }
}

/// `RESTORE key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]`
pub(super) fn restore(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let (time, dump) = (at(arguments, 2)?, at(arguments, 3)?);
    let options = Options::parse(arguments.get(4..).unwrap_or_default())?;
    let (keyspace, bytes_max, now) = (call.keyspace_to_write()?, call.value_bytes_max(), call.now());
    // Unpacked before the key is locked; whether that went well is not the first question.
    let string = unhurried(dump.len(), || restore_string(dump, bytes_max));
    call.update(&keyspace, at(arguments, 1)?, |old| {
        if old.is_some() && !options.replaces {
            return Err(Failure::new("BUSYKEY Target key name already exists."));
        }
        let time = need_integer(time)?;
        if time < 0 {
            return Err(Failure::new("ERR Invalid TTL value, must be >= 0"));
        }
        let string = string.map_err(failure)?;
        let from = if options.is_absolute { pugdb::Timestamp(0) } else { now };
        let expires_at = match time {
            0 => None,
            time => {
                Some(deadline(time, TimeUnit::Milliseconds, from).ok_or_else(|| Failure::expiry("restore"))?)
            }
        };
        let change = match (old, expires_at) {
            // Restored and expired at once: whatever was there is replaced by nothing.
            (Some(_), Some(at)) if at <= now => Change::Delete,
            (None, Some(at)) if at <= now => Change::Keep,
            _ => {
                let expires_at = expires_at.or(Some(pugdb::Timestamp::NEVER));
                Change::Put(string, EntryOptions { expires_at, ..STRING_OPTIONS })
            }
        };
        Ok((change, Reply::OK))
    })
}

fn failure(error: DumpError) -> Failure {
    match error {
        DumpError::Footer => Failure::new("ERR DUMP payload version or checksum are wrong"),
        DumpError::Type => Failure::new("ERR only strings can be restored in this version of PugDB"),
        _ => Failure::new("ERR Bad data format"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_and_frequency_exclude_each_other() {
        let parse = |line: &'static str| {
            Options::parse(&line.split_whitespace().map(Bytes::from).collect::<Vec<_>>())
        };
        assert_eq!(parse("REPLACE absttl IDLETIME 5"), Ok(Options { replaces: true, is_absolute: true }));
        assert_eq!(parse("FREQ 255"), Ok(Options::default()));
        for wrong in ["IDLETIME 1 FREQ 1", "FREQ 1 IDLETIME 1", "IDLETIME", "FREQ", "KEEP"] {
            assert_eq!(parse(wrong), Err(Failure::SYNTAX), "{wrong}");
        }
        for wrong in ["IDLETIME -1", "FREQ 256", "FREQ -1", "IDLETIME x"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
