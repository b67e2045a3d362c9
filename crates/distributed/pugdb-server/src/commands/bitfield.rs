//! `BITFIELD`: integers of any width at any place in a string.

use bytes::Bytes;
use pugdb::Change;
use pugdb_wire::resp::Reply;

use super::bits::{byte_of, checked_offset, grown};
use super::strings::{checked_length, old_string};
use crate::arguments::{at, integer, is, need_integer};
use crate::call::Call;
use crate::failure::Failure;

/// An integer's width and sign: `u1` to `u63`, `i1` to `i64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Encoding {
    is_signed: bool,
    bits: u32,
}

/// What happens to a number that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Get,
    Set(i64),
    Add(i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Operation {
    encoding: Encoding,
    offset: u64,
    does: Does,
    overflow: Overflow,
}

/// `BITFIELD key [GET encoding offset | [OVERFLOW WRAP | SAT | FAIL] SET encoding offset value |
/// INCRBY encoding offset increment ...]`: the expiry stays.
pub(super) fn bitfield(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let operations = parse(arguments.get(2..).unwrap_or_default())?;
    let Some(end) = end_of_writes(&operations) else { return read_all(call, at(arguments, 1)?, &operations) };
    let (keyspace, bytes_max) = (call.keyspace_to_write()?, call.value_bytes_max());
    let replies = call.update(&keyspace, at(arguments, 1)?, |old| {
        let (string, options) = old_string(old)?;
        // The last bit that is written lies one before the end.
        let length = checked_length(byte_of(end - 1), 1, bytes_max)?;
        let mut value = grown(string, length);
        let replies = operations.iter().map(|operation| operation.run(&mut value)).collect();
        let change = if value == string { Change::Keep } else { Change::Put(value, options) };
        Ok((change, replies))
    })?;
    Ok(Reply::Array(replies))
}

/// `BITFIELD_RO key [GET encoding offset ...]`
pub(super) fn bitfield_ro(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let operations = parse(arguments.get(2..).unwrap_or_default())?;
    if end_of_writes(&operations).is_some() {
        return Err(Failure::new("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    read_all(call, at(arguments, 1)?, &operations)
}

fn read_all(call: &Call<'_>, key: &Bytes, operations: &[Operation]) -> Result<Reply, Failure> {
    let string = call.string(key)?.unwrap_or_default();
    let value = |operation: &Operation| Reply::Integer(operation.encoding.read(&string, operation.offset));
    Ok(Reply::Array(operations.iter().map(value).collect()))
}

/// The bit behind the last that is written; `None` if nothing is.
fn end_of_writes(operations: &[Operation]) -> Option<u64> {
    let writes = operations.iter().filter(|operation| operation.does != Does::Get);
    writes.map(|operation| operation.offset + u64::from(operation.encoding.bits)).max()
}

fn parse(mut words: &[Bytes]) -> Result<Vec<Operation>, Failure> {
    let (mut operations, mut overflow) = (Vec::new(), Overflow::Wrap);
    while let [word, after @ ..] = words {
        let (encoding, offset, amount) = match after {
            [kind, after @ ..] if is(word, "overflow") => {
                let known = [("wrap", Overflow::Wrap), ("sat", Overflow::Saturate), ("fail", Overflow::Fail)];
                let found = known.into_iter().find(|(name, _)| is(kind, name));
                overflow = found.ok_or(Failure::new("ERR Invalid OVERFLOW type specified"))?.1;
                words = after;
                continue;
            }
            [encoding, offset, after @ ..] if is(word, "get") => {
                words = after;
                (encoding, offset, None)
            }
            [encoding, offset, amount, after @ ..] if is(word, "set") || is(word, "incrby") => {
                words = after;
                (encoding, offset, Some(amount))
            }
            _ => return Err(Failure::SYNTAX),
        };
        let encoding = Encoding::parse(encoding)?;
        let offset = encoding.offset(offset)?;
        let does = match amount {
            None => Does::Get,
            Some(amount) if is(word, "set") => Does::Set(need_integer(amount)?),
            Some(amount) => Does::Add(need_integer(amount)?),
        };
        operations.push(Operation { encoding, offset, does, overflow });
    }
    Ok(operations)
}

impl Operation {
    /// Runs on a string that reaches as far as it writes.
    fn run(&self, string: &mut [u8]) -> Reply {
        let old = self.encoding.read(string, self.offset);
        let (wanted, is_sum) = match self.does {
            Does::Get => return Reply::Integer(old),
            // A number without sign is one: -1 is the largest.
            Does::Set(value) if !self.encoding.is_signed => (i128::from(value.cast_unsigned()), false),
            Does::Set(value) => (i128::from(value), false),
            Does::Add(increment) => (i128::from(old) + i128::from(increment), true),
        };
        let Some(new) = self.encoding.fit(wanted, self.overflow) else { return Reply::Null };
        self.encoding.write(string, self.offset, new);
        Reply::Integer(if is_sum { new } else { old })
    }
}

impl Encoding {
    fn parse(text: &[u8]) -> Result<Self, Failure> {
        let (is_signed, bits, bits_max) = match text {
            [b'i', bits @ ..] => (true, bits, 64),
            [b'u', bits @ ..] => (false, bits, 63),
            _ => (false, &[][..], 0),
        };
        let bits = integer(bits).and_then(|bits| u32::try_from(bits).ok());
        let bits = bits.filter(|bits| (1..=bits_max).contains(bits));
        let bits = bits.ok_or(Failure::new(
            "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
        ))?;
        Ok(Self { is_signed, bits })
    }

    /// Reads an offset: in bits, or behind `#` in integers of this width.
    fn offset(self, text: &[u8]) -> Result<u64, Failure> {
        checked_offset(match text {
            [b'#', index @ ..] => integer(index).and_then(|index| index.checked_mul(i64::from(self.bits))),
            offset => integer(offset),
        })
    }

    fn smallest(self) -> i128 {
        if self.is_signed { -(1 << (self.bits - 1)) } else { 0 }
    }

    fn largest(self) -> i128 {
        (1 << (self.bits - u32::from(self.is_signed))) - 1
    }

    /// The number, or what becomes of it when it does not fit.
    fn fit(self, number: i128, overflow: Overflow) -> Option<i64> {
        let fits = (self.smallest()..=self.largest()).contains(&number);
        let number = match overflow {
            _ if fits => number,
            Overflow::Fail => return None,
            Overflow::Saturate => number.clamp(self.smallest(), self.largest()),
            Overflow::Wrap => (number - self.smallest()).rem_euclid(1 << self.bits) + self.smallest(),
        };
        i64::try_from(number).ok()
    }

    /// Where an integer lies: nine bytes hold the widest at any offset. How far it is from their end.
    fn window(self, offset: u64) -> (usize, u32) {
        let start = byte_of(offset);
        // Below 8.
        let skipped = u32::try_from(offset % 8).unwrap_or(0);
        (start, u128::BITS - skipped - self.bits)
    }

    fn mask(self) -> u128 {
        (1 << self.bits) - 1
    }

    /// Beyond the end all bits are clear.
    fn read(self, string: &[u8], offset: u64) -> i64 {
        let (start, shift) = self.window(offset);
        let number = load(string, start) >> shift & self.mask();
        let number = number.cast_signed();
        let number = if number > self.largest() { number - (1 << self.bits) } else { number };
        // It has at most 64 bits with sign, or 63 without.
        i64::try_from(number).unwrap_or_default()
    }

    fn write(self, string: &mut [u8], offset: u64, number: i64) {
        let (start, shift) = self.window(offset);
        let number = i128::from(number).cast_unsigned() & self.mask();
        let window = load(string, start) & !(self.mask() << shift) | number << shift;
        let place = string.get_mut(start..).unwrap_or_default();
        place.iter_mut().zip(window.to_be_bytes()).for_each(|(byte, new)| *byte = new);
    }
}

/// Sixteen bytes from a place on, with zeros behind the end.
fn load(string: &[u8], start: usize) -> u128 {
    let mut bytes = [0; 16];
    let there = string.get(start..).unwrap_or_default();
    bytes.iter_mut().zip(there).for_each(|(byte, there)| *byte = *there);
    u128::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoding(text: &str) -> Encoding {
        Encoding::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_does_not_fit_wraps_saturates_or_fails() {
        use Overflow::{Fail, Saturate, Wrap};
        for (name, number, wrapped, saturated) in [
            ("u8", 256, 0, 255),
            ("u8", -1, 255, 0),
            ("i8", 128, -128, 127),
            ("i8", -129, 127, -128),
            ("u1", 3, 1, 1),
            ("i1", 1, -1, 0),
            ("i1", -2, 0, -1),
            ("u63", 1 << 63, 0, i64::MAX),
            ("i64", 1 << 63, i64::MIN, i64::MAX),
            ("i64", -(1 << 63) - 1, i64::MAX, i64::MIN),
        ] {
            let encoding = encoding(name);
            assert_eq!(encoding.fit(number, Wrap), Some(wrapped), "{name} {number}");
            assert_eq!(encoding.fit(number, Saturate), Some(saturated), "{name} {number}");
            assert_eq!(encoding.fit(number, Fail), None, "{name} {number}");
        }
    }

    #[test]
    fn an_encoding_has_a_sign_and_a_width() {
        for wrong in ["", "u", "u0", "u64", "i65", "i0", "u-1", "U8", "8", "u08", "x8", "u8 ", "u4294967304"]
        {
            assert!(Encoding::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert_eq!(encoding("i64"), Encoding { is_signed: true, bits: 64 });
        assert_eq!(encoding("u16").offset(b"#2"), Ok(32));
        assert!(encoding("u16").offset(b"#4611686018427387904").is_err());
        assert!(encoding("u16").offset(b"##1").is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_its_neighbours_stay(
            string in proptest::collection::vec(any::<u8>(), 20), offset in 0_u64..96, bits in 1_u32..=64, number: i64,
            is_signed: bool,
        ) {
            let encoding = Encoding { is_signed, bits: if is_signed { bits } else { bits.min(63) } };
            let number = encoding.fit(i128::from(number), Overflow::Wrap).unwrap();
            let mut changed = string.clone();
            encoding.write(&mut changed, offset, number);
            prop_assert_eq!(encoding.read(&changed, offset), number);
            let bit = |string: &[u8], place: u64| string[byte_of(place)] >> (7 - place % 8) & 1;
            for place in (0..160).filter(|place| !(offset..offset + u64::from(encoding.bits)).contains(place)) {
                prop_assert_eq!(bit(&string, place), bit(&changed, place));
            }
            // Bit by bit, from the highest.
            let digits = (offset..offset + u64::from(encoding.bits)).fold(0_u128, |number, place| number << 1 | u128::from(bit(&changed, place)));
            prop_assert_eq!(digits, i128::from(number).cast_unsigned() & encoding.mask());
        }
    }
}
