//! The compression of long strings in a dump: `LibLZF`'s format, decompressed only.
//!
//! A control byte below 32 is followed by that many literal bytes and one more. Else its upper three bits are a length (7:
//! the next byte is added) and the lower five with the next byte a distance back.

/// Three bytes become 264 at most.
const GROWTH_MAX: usize = 88;
/// Reserved at once, whatever length is announced.
const RESERVED_BYTES_MAX: usize = 1 << 20;

/// The `length` bytes that `compressed` stands for; `None` when it stands for something else.
pub(super) fn decompress(compressed: &[u8], length: usize) -> Option<Vec<u8>> {
    if length > compressed.len().saturating_mul(GROWTH_MAX) {
        return None;
    }
    let mut out = Vec::with_capacity(length.min(RESERVED_BYTES_MAX));
    let mut rest = compressed;
    while let Some((&control, after)) = rest.split_first() {
        rest = after;
        if control < 32 {
            let (literal, after) = rest.split_at_checked(usize::from(control) + 1)?;
            out.extend_from_slice(literal);
            rest = after;
        } else {
            let mut count = usize::from(control >> 5);
            if count == 7 {
                let (&more, after) = rest.split_first()?;
                count += usize::from(more);
                rest = after;
            }
            let (&low, after) = rest.split_first()?;
            rest = after;
            let distance = (usize::from(control & 0x1f) << 8 | usize::from(low)) + 1;
            let start = out.len().checked_sub(distance)?;
            // Source and target may overlap: a distance of 1 repeats one byte.
            for at in start..start + count + 2 {
                out.push(out[at]);
            }
        }
        if out.len() > length {
            return None;
        }
    }
    (out.len() == length).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_repetitions() {
        assert_eq!(decompress(b"\x02abc", 3).unwrap(), b"abc");
        // One `a`, then nine more from one byte back: length 7, and 0 more, and 2.
        assert_eq!(decompress(b"\x00a\xe0\x00\x00", 10).unwrap(), b"aaaaaaaaaa");
        assert_eq!(decompress(b"\x02abc\x20\x02", 6).unwrap(), b"abcabc");
        assert_eq!(decompress(b"", 0).unwrap(), b"");
    }

    #[test]
    fn what_does_not_add_up_is_refused() {
        for (bytes, length) in [
            (&b"\x02ab"[..], 3),
            (b"\x02abc", 2),
            (b"\x02abc", 4),
            (b"\x20\x00", 3),
            (b"\x00a\x20\x01", 4),
            (b"\x00a\xe0", 10),
            (b"\x00a\xe0\x00", 10),
            (b"\x00a", usize::MAX),
        ] {
            assert_eq!(decompress(bytes, length), None, "{}", bytes.escape_ascii());
        }
        let mut random = fastrand::Rng::with_seed(31);
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..random.usize(..40)).map(|_| random.u8(..)).collect();
            let length = random.usize(..2_000);
            assert!(decompress(&bytes, length).is_none_or(|out| out.len() == length));
        }
    }
}
