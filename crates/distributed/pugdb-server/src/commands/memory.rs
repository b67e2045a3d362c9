//! `MEMORY` and `OBJECT`: what keys take, and how they are kept.

use bytes::Bytes;
use pugdb_wire::resp::Reply;

use super::table::{Command, commands};
use super::{count, text, verbatim};
use crate::arguments::{at, integer, is, need_integer};
use crate::call::Call;
use crate::failure::Failure;

#[rustfmt::skip]
pub(super) const SUBCOMMANDS: &[Command] = commands! {
    "memory|doctor" 2 [] [] Server "4.0.0" Run(doctor) "" "Says what is wrong with the use of memory." "Texts of its own.";
    "memory|malloc-stats" 2 [] [] Server "4.0.0" Run(malloc_stats) "" "Describes the allocator." "There are no statistics of the allocator.";
    "memory|purge" 2 [] [] Server "4.0.0" Run(purge) "" "Gives memory back to the system." "The allocator does that by itself, so it has no effect.";
    "memory|stats" 2 [] [] Server "4.0.0" Run(stats) "" "Tells what memory is used for." "Fields of its own, for the parts that there are.";
    "memory|usage" -3 [Readonly] [(2 2 1) Read] Server "4.0.0" Run(usage) "key [SAMPLES count]" "Estimates the bytes that a key takes." "The bytes of key and value, and a fixed amount for each entry.";
};

#[rustfmt::skip]
pub(super) const OBJECT: &[Command] = commands! {
    "object|encoding" 3 [Readonly] [(2 2 1) Read] Generic "2.2.3" Run(encoding) "key" "Returns how a value is kept." "Told by the value alone: int, embstr or raw as after SET, whatever command wrote it.";
    "object|freq" 3 [Readonly] [(2 2 1) Read] Generic "4.0.0" Run(freq) "key" "Returns how often a key is used." "Always an error for a key that is there, as in Redis without an LFU policy.";
    "object|idletime" 3 [Readonly] [(2 2 1) Read] Generic "2.2.3" Run(idletime) "key" "Returns for how long a key was not used." "Nothing ages by not being used, so it is 0.";
    "object|refcount" 3 [Readonly] [(2 2 1) Read] Generic "2.2.3" Run(refcount) "key" "Returns how many share a value." "Values are not shared, so it is 1.";
};

/// What an entry takes in memory beside its bytes, about: its place in an index, the numbers that come with it.
const ENTRY_BYTES: usize = 64;

/// `MEMORY USAGE key [SAMPLES count]`
fn usage(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let key = at(arguments, 2)?;
    let mut words = arguments.get(3..).unwrap_or_default();
    while let [word, samples, after @ ..] = words {
        if !is(word, "samples") || need_integer(samples)? < 0 {
            return Err(Failure::SYNTAX);
        }
        words = after;
    }
    if !words.is_empty() {
        return Err(Failure::SYNTAX);
    }
    let entry = call.entry(key)?;
    Ok(entry.map_or(Reply::Null, |entry| count(key.len() + entry.value.len() + ENTRY_BYTES)))
}

/// `MEMORY DOCTOR`
fn doctor(call: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    let used = call.shared.budget.used();
    let is_short = used > call.shared.options.buffer_bytes / 10 * 9;
    let finding = if is_short {
        "The commands and replies under way take nearly all memory for buffers: read replies faster, or in smaller \
         portions.\n"
    } else {
        "Nothing is wrong: the database keeps its own memory within its bound, and the buffers are within theirs.\n"
    };
    Ok(verbatim(finding.to_owned()))
}

/// `MEMORY STATS`
fn stats(call: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    let stats = call.shared.db.stats()?;
    let buffers = call.shared.budget.used();
    let fields = [
        ("total.allocated", stats.memtable_bytes + stats.cache_bytes + stats.table_memory_bytes + buffers),
        ("memtable.bytes", stats.memtable_bytes),
        ("cache.bytes", stats.cache_bytes),
        ("table.memory.bytes", stats.table_memory_bytes),
        ("memory.bytes.max", call.shared.db.memory_bytes()),
        ("buffer.bytes", buffers),
        ("buffer.bytes.max", call.shared.options.buffer_bytes),
    ];
    Ok(Reply::Map(fields.map(|(name, bytes)| (text(name), count(bytes))).to_vec()))
}

/// `MEMORY PURGE`
fn purge(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Ok(Reply::OK)
}

/// `MEMORY MALLOC-STATS`
fn malloc_stats(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Ok(verbatim("Stats not supported for the current allocator".to_owned()))
}

/// `OBJECT ENCODING key`
fn encoding(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let entry = call.entry(at(arguments, 2)?)?;
    Ok(entry.map_or(Reply::Null, |entry| text(encoding_of(&entry.value))))
}

/// What Redis would call a string that `SET` has written.
fn encoding_of(string: &[u8]) -> &'static str {
    /// A longer string does not fit into Redis's smallest kind of object.
    const EMBEDDED_BYTES_MAX: usize = 44;
    match string {
        string if integer(string).is_some() => "int",
        string if string.len() <= EMBEDDED_BYTES_MAX => "embstr",
        _ => "raw",
    }
}

/// `OBJECT REFCOUNT key`
fn refcount(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    Ok(call.entry(at(arguments, 2)?)?.map_or(Reply::Null, |_| Reply::Integer(1)))
}

/// `OBJECT IDLETIME key`
fn idletime(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    Ok(call.entry(at(arguments, 2)?)?.map_or(Reply::Null, |_| Reply::Integer(0)))
}

/// `OBJECT FREQ key`
fn freq(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    match call.entry(at(arguments, 2)?)? {
        None => Ok(Reply::Null),
        Some(_) => Err(Failure::new(
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when \
             switching between policies at runtime LRU and LFU data will take some time to adjust.",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoding_is_told_by_the_value() {
        for (string, encoding) in [
            ("0", "int"),
            ("-9223372036854775808", "int"),
            ("9223372036854775808", "embstr"),
            ("01", "embstr"),
            ("", "embstr"),
            (&"x".repeat(44), "embstr"),
            (&"x".repeat(45), "raw"),
        ] {
            assert_eq!(encoding_of(string.as_bytes()), encoding, "{string}");
        }
    }
}
