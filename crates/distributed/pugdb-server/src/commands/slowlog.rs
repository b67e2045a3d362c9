//! `SLOWLOG`: commands that took long, by their names and the lengths of their arguments.

use bytes::Bytes;
use pugdb_wire::resp::Reply;

use super::table::{Command, commands};
use super::{count, text};
use crate::arguments::integer;
use crate::call::Call;
use crate::failure::Failure;
use crate::slowlog::SlowEntry;

/// Entries that `SLOWLOG GET` shows when nothing is said, as in Redis.
const SHOWN: usize = 10;

#[rustfmt::skip]
pub(super) const SUBCOMMANDS: &[Command] = commands! {
    "slowlog|get" -2 [Admin Dangerous Loading] [] Server "2.2.12" Run(get) "[count]" "Shows slow commands, the newest first." "Of arguments the lengths are kept, never what they hold. The time is the command's own, without the wait for the disk.";
    "slowlog|len" 2 [Admin Dangerous Loading] [] Server "2.2.12" Run(len) "" "Counts the slow commands that are kept." "";
    "slowlog|reset" 2 [Admin Dangerous Loading] [] Server "2.2.12" Run(reset) "" "Forgets the slow commands." "";
};

/// `SLOWLOG GET [count]`
fn get(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let shown = match arguments.get(2..).unwrap_or_default() {
        [] => SHOWN,
        [number] => match integer(number) {
            Some(-1) => usize::MAX,
            Some(number @ 0..) => usize::try_from(number).unwrap_or(usize::MAX),
            _ => return Err(Failure::new("ERR count should be greater than or equal to -1")),
        },
        _ => return Err(Failure::arguments("slowlog|get")),
    };
    Ok(Reply::Array(call.shared.slowlog.newest(shown).into_iter().map(describe).collect()))
}

fn describe(entry: SlowEntry) -> Reply {
    let number = |number: u64| Reply::Integer(i64::try_from(number).unwrap_or(i64::MAX));
    Reply::Array(vec![
        Reply::Integer(entry.id),
        number(entry.at),
        number(entry.microseconds),
        Reply::Array(entry.words.into_iter().map(text).collect()),
        text(entry.address),
        text(entry.client_name),
    ])
}

/// `SLOWLOG LEN`
fn len(call: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Ok(count(call.shared.slowlog.len()))
}

/// `SLOWLOG RESET`
fn reset(call: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    call.shared.slowlog.clear();
    Ok(Reply::OK)
}
