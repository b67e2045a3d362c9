//! LZF, the compression of strings in RDB: runs of literal bytes, and copies of what came before.
//!
//! A control byte below 32 is followed by that many literal bytes and one more. Any other has the length of a copy in
//! its upper three bits (7: one more byte adds to it) and the upper five bits of the distance below, whose lower eight
//! follow; a copy is two bytes longer than it says, and its distance one further.

use super::RdbError;

/// The longest copy. It takes three bytes.
const COPY_BYTES_MAX: usize = 7 + 255 + 2;
/// So no byte stands for more than this many.
const GROWTH_MAX: usize = COPY_BYTES_MAX / 3;
/// Taken at once, whatever length is announced; more comes with the bytes.
const RESERVED_BYTES_MAX: usize = 1 << 20;

/// Unpacks a string whose length is known.
///
/// ```
/// use pugdb_wire::rdb::lzf_decompress;
///
/// // The literal `a`, then 9 bytes from one before.
/// assert_eq!(lzf_decompress(b"\x00a\xe0\x00\x00", 10).unwrap(), b"aaaaaaaaaa");
/// assert!(lzf_decompress(b"\x00a\xe0\x00\x00", 11).is_err());
/// ```
///
/// # Errors
/// [`RdbError::Lzf`] when the bytes are not LZF, or do not make a string of exactly that length.
pub fn lzf_decompress(packed: &[u8], length: usize) -> Result<Vec<u8>, RdbError> {
    let mut bytes = Vec::with_capacity(reserved_bytes(packed.len(), length)?);
    unpack(packed, length, &mut bytes)?;
    if bytes.len() == length { Ok(bytes) } else { Err(RdbError::Lzf) }
}

/// Appends what the packed bytes stand for, and stops before there would be more than `length` of it.
fn unpack(packed: &[u8], length: usize, bytes: &mut Vec<u8>) -> Result<(), RdbError> {
    let mut rest = packed;
    while let Some(control) = next(&mut rest) {
        let high = usize::from(control >> 5);
        if high == 0 {
            let (literal, after) = rest.split_at_checked(usize::from(control) + 1).ok_or(RdbError::Lzf)?;
            rest = after;
            check_room(bytes, literal.len(), length)?;
            bytes.extend_from_slice(literal);
            continue;
        }
        let longer = if high == 7 { usize::from(next(&mut rest).ok_or(RdbError::Lzf)?) } else { 0 };
        let low = next(&mut rest).ok_or(RdbError::Lzf)?;
        let distance = (usize::from(control & 0x1f) << 8) + usize::from(low) + 1;
        let count = high + longer + 2;
        check_room(bytes, count, length)?;
        let from = bytes.len().checked_sub(distance).ok_or(RdbError::Lzf)?;
        copy_within(bytes, from, count);
    }
    Ok(())
}

/// How much memory an announced length is given before a byte of it is there.
fn reserved_bytes(packed: usize, length: usize) -> Result<usize, RdbError> {
    if length > packed.saturating_mul(GROWTH_MAX) {
        return Err(RdbError::Lzf);
    }
    Ok(length.min(RESERVED_BYTES_MAX))
}

fn next(rest: &mut &[u8]) -> Option<u8> {
    let (first, after) = rest.split_first()?;
    *rest = after;
    Some(*first)
}

fn check_room(bytes: &[u8], more: usize, length: usize) -> Result<(), RdbError> {
    if more <= length - bytes.len() { Ok(()) } else { Err(RdbError::Lzf) }
}

/// Appends `count` bytes from a place on. A copy may reach into itself: then it repeats.
fn copy_within(bytes: &mut Vec<u8>, from: usize, count: usize) {
    let mut left = count;
    while left > 0 {
        let now = left.min(bytes.len() - from);
        bytes.extend_from_within(from..from + now);
        left -= now;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Packs in the simplest way that uses both kinds of runs.
    fn pack(bytes: &[u8]) -> Vec<u8> {
        let (mut packed, mut literal, mut at) = (Vec::new(), Vec::new(), 0);
        let flush = |literal: &mut Vec<u8>, packed: &mut Vec<u8>| {
            for run in literal.chunks(32) {
                packed.push(u8::try_from(run.len() - 1).unwrap());
                packed.extend_from_slice(run);
            }
            literal.clear();
        };
        while at < bytes.len() {
            let same = |from: usize| {
                (0..COPY_BYTES_MAX.min(bytes.len() - at))
                    .take_while(|i| bytes[from + i] == bytes[at + i])
                    .count()
            };
            let best = (at.saturating_sub(8192)..at).map(|from| (same(from), from)).max().unwrap_or((0, 0));
            if best.0 < 3 {
                literal.push(bytes[at]);
                at += 1;
                continue;
            }
            flush(&mut literal, &mut packed);
            let (count, distance) = (best.0 - 2, at - best.1 - 1);
            let high = u8::try_from(distance >> 8).unwrap();
            if count < 7 {
                packed.push(u8::try_from(count << 5).unwrap() | high);
            } else {
                packed.extend([7 << 5 | high, u8::try_from(count - 7).unwrap()]);
            }
            packed.push(u8::try_from(distance & 0xff).unwrap());
            at += best.0;
        }
        flush(&mut literal, &mut packed);
        packed
    }

    #[test]
    fn what_redis_packed_is_unpacked() {
        assert_eq!(lzf_decompress(b"\x01aa\xe0%\x00\x01aa", 50).unwrap(), [b'a'; 50]);
        assert_eq!(lzf_decompress(b"\x02abc\x20\x02", 6).unwrap(), b"abcabc");
        let fox = b"the quick brown fox the quick brown fox";
        let packed = b"\x14the quick brown fox t\xe0\x07\x13\x01ox";
        assert_eq!(lzf_decompress(packed, fox.len()).unwrap(), fox);
    }

    #[test]
    fn an_announced_length_is_believed_only_as_far_as_the_bytes_can_unpack() {
        assert_eq!(reserved_bytes(3, COPY_BYTES_MAX), Ok(COPY_BYTES_MAX));
        assert_eq!(reserved_bytes(3, COPY_BYTES_MAX + 1), Err(RdbError::Lzf));
        assert_eq!(reserved_bytes(0, 0), Ok(0));
        assert_eq!(reserved_bytes(0, 1), Err(RdbError::Lzf));
        assert_eq!(reserved_bytes(1 << 30, 1 << 32), Ok(RESERVED_BYTES_MAX));
        assert_eq!(reserved_bytes(usize::MAX, usize::MAX), Ok(RESERVED_BYTES_MAX));
        // What is longer than that still unpacks.
        let longest = [&b"\x00a"[..], &b"\xe0\xff\x00".repeat(5_000)].concat();
        assert_eq!(lzf_decompress(&longest, 1 + 5_000 * COPY_BYTES_MAX).unwrap(), b"a".repeat(1_320_001));
    }

    #[test]
    fn hostile_bytes_are_refused() {
        let cases: [(&[u8], usize); 12] = [
            (b"\x00a", 2),
            (b"\x02ab", 3),
            (b"\x02abc", 2),
            (b"\x02abc", 4),
            (b"\x00a", 0),
            (b"\x01a", 2),
            (b"\x20\x00", 3),
            (b"\x00a\x20", 4),
            (b"\x00a\xe0", 10),
            (b"\x00a\xe0\x00", 10),
            (b"\x00a\x20\x01", 4),
            (b"\x00a", usize::MAX),
        ];
        for (packed, length) in cases {
            assert_eq!(lzf_decompress(packed, length), Err(RdbError::Lzf), "{packed:?} {length}");
        }
        let mut bytes = Vec::new();
        assert_eq!(unpack(b"\x00a\xe0\xff\x00", 100, &mut bytes), Err(RdbError::Lzf));
        assert_eq!(bytes, b"a", "not a byte of a copy that is too long");
        assert_eq!(lzf_decompress(b"", 0).unwrap(), b"");
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_back(bytes in proptest::collection::vec(0_u8..4, 0..700)) {
            let packed = pack(&bytes);
            prop_assert_eq!(lzf_decompress(&packed, bytes.len()).unwrap(), &bytes[..]);
            prop_assert!(lzf_decompress(&packed, bytes.len() + 1).is_err());
        }

        #[test]
        fn any_bytes_end_in_a_string_of_the_length_or_an_error(packed: Vec<u8>, length in 0_usize..3000) {
            if let Ok(bytes) = lzf_decompress(&packed, length) {
                prop_assert_eq!(bytes.len(), length);
            }
            let mut bytes = Vec::new();
            let _: Result<(), RdbError> = unpack(&packed, length, &mut bytes);
            prop_assert!(bytes.len() <= length);
        }
    }
}
