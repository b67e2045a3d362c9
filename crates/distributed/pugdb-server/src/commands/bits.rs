//! Commands on strings as rows of bits. Bit 0 is the highest of the first byte.

use std::ops::RangeInclusive;

use bytes::Bytes;
use pugdb::Change;
use pugdb_wire::resp::Reply;
use pugdb_wire::resp::limits::BULK_BYTES_MAX;

use super::strings::{checked_length, old_string, places};
use super::{count, unhurried};
use crate::arguments::{at, integer, is, need_integer};
use crate::call::{Call, string_of};
use crate::failure::Failure;
use crate::session::STRING_OPTIONS;

/// `SETBIT key offset value`: the old bit. The expiry stays.
pub(super) fn setbit(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let offset = need_offset(at(arguments, 2)?)?;
    let bit = match integer(at(arguments, 3)?) {
        Some(0) => false,
        Some(1) => true,
        _ => return Err(Failure::new("ERR bit is not an integer or out of range")),
    };
    let (keyspace, bytes_max) = (call.keyspace_to_write()?, call.value_bytes_max());
    let old = call.update(&keyspace, at(arguments, 1)?, |old| {
        let (string, options) = old_string(old)?;
        let was = bit_at(string, offset);
        let length = string.len().max(checked_length(byte_of(offset), 1, bytes_max)?);
        if was == bit && length == string.len() {
            return Ok((Change::Keep, was));
        }
        let mut value = grown(string, length);
        if let Some(byte) = value.get_mut(byte_of(offset)) {
            *byte = *byte & !mask_of(offset) | if bit { mask_of(offset) } else { 0 };
        }
        Ok((Change::Put(value, options), was))
    })?;
    Ok(Reply::Integer(i64::from(old)))
}

/// `GETBIT key offset`
pub(super) fn getbit(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let offset = need_offset(at(arguments, 2)?)?;
    let string = call.string(at(arguments, 1)?)?.unwrap_or_default();
    Ok(Reply::Integer(i64::from(bit_at(&string, offset))))
}

/// `BITCOUNT key [start end [BYTE | BIT]]`
pub(super) fn bitcount(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let range = match arguments {
        [_, _] => None,
        [_, _, start, end] => Some((need_integer(start)?, need_integer(end)?, Unit::Byte)),
        [_, _, start, end, unit] => Some((need_integer(start)?, need_integer(end)?, Unit::parse(unit)?)),
        _ => return Err(Failure::SYNTAX),
    };
    let string = call.string(at(arguments, 1)?)?.unwrap_or_default();
    let (start, end, unit) = range.unwrap_or((0, -1, Unit::Byte));
    let bits = unit.bits(start, end, string.len());
    Ok(count(unhurried(string.len(), || bits.map_or(0, |bits| count_ones(&string, bits)))))
}

/// `BITPOS key bit [start [end [BYTE | BIT]]]`
pub(super) fn bitpos(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let bit = match need_integer(at(arguments, 2)?)? {
        0 => false,
        1 => true,
        _ => return Err(Failure::new("ERR The bit argument must be 1 or 0.")),
    };
    let (start, end, unit) = match arguments.get(3..).unwrap_or_default() {
        [] => (0, None, Unit::Byte),
        [start] => (need_integer(start)?, None, Unit::Byte),
        [start, end] => (need_integer(start)?, Some(need_integer(end)?), Unit::Byte),
        [start, end, unit] => {
            // Redis looks at the unit before it looks at the end.
            let (start, unit) = (need_integer(start)?, Unit::parse(unit)?);
            (start, Some(need_integer(end)?), unit)
        }
        _ => return Err(Failure::SYNTAX),
    };
    let Some(string) = call.string(at(arguments, 1)?)? else {
        // It is as if there were zeros only, and no end of them.
        return Ok(Reply::Integer(if bit { -1 } else { 0 }));
    };
    let Some(bits) = unit.bits_of_search(start, end.unwrap_or(-1), string.len()) else {
        return Ok(Reply::Integer(-1));
    };
    let found = unhurried(string.len(), || find_bit(&string, bits, bit));
    // Behind the end there are zeros, unless an end was named.
    let zero_behind = (!bit && end.is_none()).then_some(string.len() * 8);
    Ok(found.or(zero_behind).map_or(Reply::Integer(-1), count))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    And,
    Or,
    Xor,
    Not,
}

/// `BITOP AND | OR | XOR | NOT destination key [key ...]`: the length of the result, which has no expiry.
pub(super) fn bitop(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    use Operation::{And, Not, Or, Xor};
    let word = at(arguments, 1)?;
    let known = [("and", And), ("or", Or), ("xor", Xor), ("not", Not)];
    let found = known.into_iter().find(|(name, _)| is(word, name));
    let operation = found.ok_or(Failure::SYNTAX)?.1;
    let keys = arguments.get(2..).unwrap_or_default();
    if operation == Not && keys.len() != 2 {
        return Err(Failure::new("ERR BITOP NOT must be called with a single source key."));
    }
    let keyspace = call.keyspace_to_write()?;
    let keys: Vec<_> = keys.iter().map(|key| (keyspace.clone(), key.as_ref())).collect();
    let length = call.update_keys(&keys, |locked| {
        let Some(((_, destination), sources)) = keys.split_first() else { return Err(Failure::SYNTAX) };
        let mut strings = Vec::with_capacity(sources.len());
        for (keyspace, key) in sources {
            strings.push(locked.get_entry(keyspace, key)?.map(string_of).transpose()?.unwrap_or_default());
        }
        let bytes = strings.iter().map(Bytes::len).fold(0, usize::saturating_add);
        let result = unhurried(bytes, || combine(operation, &strings));
        if !result.is_empty() {
            let options = STRING_OPTIONS;
            locked.put_with(&keyspace, destination, &result, options)?;
        } else if locked.get_entry(&keyspace, destination)?.is_some() {
            locked.delete(&keyspace, destination)?;
        }
        Ok(result.len())
    })?;
    Ok(count(length))
}

/// Shorter strings count as if zeros followed.
fn combine(operation: Operation, strings: &[Bytes]) -> Vec<u8> {
    let longest = strings.iter().map(Bytes::len).max().unwrap_or(0);
    let (first, others) = strings.split_first().map_or((&[][..], &[][..]), |(first, rest)| (first, rest));
    let mut result = grown(first, longest);
    for other in others {
        let (common, beyond) = result.split_at_mut(other.len());
        let pairs = common.iter_mut().zip(other);
        match operation {
            Operation::And => {
                pairs.for_each(|(byte, other)| *byte &= other);
                beyond.fill(0);
            }
            Operation::Or => pairs.for_each(|(byte, other)| *byte |= other),
            Operation::Xor => pairs.for_each(|(byte, other)| *byte ^= other),
            // It has one source only.
            Operation::Not => {}
        }
    }
    if operation == Operation::Not {
        for byte in &mut result {
            *byte = !*byte;
        }
    }
    result
}

/// What the ends of a range count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Byte,
    Bit,
}

impl Unit {
    fn parse(word: &[u8]) -> Result<Self, Failure> {
        match word {
            word if is(word, "byte") => Ok(Self::Byte),
            word if is(word, "bit") => Ok(Self::Bit),
            _ => Err(Failure::SYNTAX),
        }
    }

    /// The bits of a range in a string of so many bytes.
    fn bits(self, start: i64, end: i64, length: usize) -> Option<RangeInclusive<usize>> {
        match self {
            Self::Bit => places(start, end, length * 8).map(|(start, end)| start..=end),
            Self::Byte => places(start, end, length).map(|(start, end)| start * 8..=end * 8 + 7),
        }
    }

    /// As [`bits`](Self::bits), but negative ends that lie the wrong way round both mean the beginning when they are
    /// before it: what `BITPOS` does.
    fn bits_of_search(self, start: i64, end: i64, length: usize) -> Option<RangeInclusive<usize>> {
        let places_in_all = i64::try_from(if self == Self::Bit { length * 8 } else { length }).ok()?;
        let is_before_all = |index: i64| index.saturating_add(places_in_all) <= 0;
        let swapped = start < 0 && end < 0 && start > end;
        if swapped && is_before_all(start) && is_before_all(end) {
            return self.bits(0, 0, length);
        }
        self.bits(start, end, length)
    }
}

/// An offset in bits, in a string of at most 512 MiB.
fn need_offset(text: &[u8]) -> Result<u64, Failure> {
    checked_offset(integer(text))
}

/// An offset that has been read, if it has.
pub(super) fn checked_offset(offset: Option<i64>) -> Result<u64, Failure> {
    let offset = offset.and_then(|offset| u64::try_from(offset).ok());
    let offset = offset.filter(|offset| byte_of(*offset) < BULK_BYTES_MAX);
    offset.ok_or(Failure::new("ERR bit offset is not an integer or out of range"))
}

/// The byte in which a bit lies.
pub(super) fn byte_of(offset: u64) -> usize {
    usize::try_from(offset / 8).unwrap_or(usize::MAX)
}

fn mask_of(offset: u64) -> u8 {
    0x80 >> (offset % 8)
}

/// Beyond the end all bits are clear.
fn bit_at(string: &[u8], offset: u64) -> bool {
    string.get(byte_of(offset)).is_some_and(|byte| byte & mask_of(offset) != 0)
}

/// A copy, with zeros behind.
pub(super) fn grown(string: &[u8], length: usize) -> Vec<u8> {
    let mut value = Vec::with_capacity(length.max(string.len()));
    value.extend_from_slice(string);
    value.resize(length.max(string.len()), 0);
    value
}

/// A range of bits in its bytes: the bytes, and what of the first and of the last belongs to it.
fn cut(string: &[u8], bits: RangeInclusive<usize>) -> (&[u8], u8, u8) {
    let (start, end) = bits.into_inner();
    let bytes = string.get(start / 8..=end / 8).unwrap_or_default();
    (bytes, 0xff >> (start % 8), !(0x7f >> (end % 8)))
}

fn count_ones(string: &[u8], bits: RangeInclusive<usize>) -> usize {
    let (bytes, first_mask, last_mask) = cut(string, bits);
    let (words, rest) = bytes.as_chunks::<8>();
    let words: usize = words.iter().map(|word| u64::from_ne_bytes(*word).count_ones() as usize).sum();
    let rest: usize = rest.iter().map(|byte| byte.count_ones() as usize).sum();
    // What is outside at both ends was counted too.
    let outside = |byte: Option<&u8>, mask: u8| byte.map_or(0, |byte| (byte & !mask).count_ones() as usize);
    words + rest - outside(bytes.first(), first_mask) - outside(bytes.last(), last_mask)
}

fn find_bit(string: &[u8], bits: RangeInclusive<usize>, bit: bool) -> Option<usize> {
    let start = bits.start() / 8;
    let (bytes, first_mask, last_mask) = cut(string, bits);
    // Turned, so that a bit that is set is looked for.
    let turn = if bit { 0 } else { 0xff };
    let last = bytes.len().checked_sub(1)?;
    let wanted = |index: usize, byte: u8| {
        let first = if index == 0 { first_mask } else { 0xff };
        let last = if index == last { last_mask } else { 0xff };
        (byte ^ turn) & first & last
    };
    let nothing = [turn; 8];
    let mut index = 0;
    while index <= last {
        // Eight bytes of nothing are passed at once.
        if bytes.get(index..index + 8).is_some_and(|word| word == nothing) {
            index += 8;
            continue;
        }
        let found = wanted(index, bytes.get(index).copied()?);
        if found != 0 {
            return Some((start + index) * 8 + found.leading_zeros() as usize);
        }
        index += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bits_of(string: &[u8]) -> Vec<bool> {
        (0..string.len() as u64 * 8).map(|offset| bit_at(string, offset)).collect()
    }

    #[test]
    fn an_offset_ends_where_the_longest_string_does() {
        assert_eq!(need_offset(b"4294967295"), Ok(u64::from(u32::MAX)));
        for wrong in ["4294967296", "-1", "x", "", "1.5", "9223372036854775808"] {
            assert!(need_offset(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn bits_are_counted_and_found_as_one_by_one(
            string in proptest::collection::vec(prop_oneof![Just(0_u8), Just(0xff), any::<u8>()], 1..40),
            one: usize, two: usize, bit: bool,
        ) {
            let all = bits_of(&string);
            let (one, two) = (one % all.len(), two % all.len());
            let range = one.min(two)..=one.max(two);
            let expected = range.clone().filter(|place| all[*place]).count();
            prop_assert_eq!(count_ones(&string, range.clone()), expected);
            let expected = range.clone().find(|place| all[*place] == bit);
            prop_assert_eq!(find_bit(&string, range, bit), expected);
        }

        #[test]
        fn strings_are_combined_bit_by_bit(strings in proptest::collection::vec(any::<Vec<u8>>(), 1..4)) {
            let strings: Vec<Bytes> = strings.into_iter().map(Bytes::from).collect();
            let length = strings.iter().map(Bytes::len).max().unwrap();
            for (operation, fold) in [
                (Operation::And, (|a, b| a & b) as fn(u8, u8) -> u8),
                (Operation::Or, |a, b| a | b),
                (Operation::Xor, |a, b| a ^ b),
            ] {
                let byte = |place: usize| {
                    strings.iter().map(|string| string.get(place).copied().unwrap_or(0)).reduce(fold).unwrap()
                };
                prop_assert_eq!(combine(operation, &strings), (0..length).map(byte).collect::<Vec<_>>());
            }
            let turned: Vec<u8> = strings[0].iter().map(|byte| !byte).collect();
            prop_assert_eq!(combine(Operation::Not, &strings[..1]), turned);
        }
    }
}
