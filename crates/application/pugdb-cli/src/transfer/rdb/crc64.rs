//! The checksum of a dump: CRC-64 with the polynomial of Jones, bits reflected, as Redis computes it.
//!
//! "Improved 64-bit Cyclic Redundancy Check for Protein Sequences", David T. Jones. Eight bytes a step by eight tables
//! (Kounavis, Berry: "A Systematic Approach to Building High Performance Software-based CRC Generators", 2005).

/// 0xad93d23594c935a9 with its bits reversed.
const POLYNOMIAL: u64 = 0x95ac_9329_ac4b_c9b5;

/// `TABLES[n][byte]`: what a byte does to the sum when `n` bytes follow it.
static TABLES: [[u64; 256]; 8] = tables();

const fn tables() -> [[u64; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ POLYNOMIAL } else { sum >> 1 };
            bit += 1;
        }
        tables[0][byte] = sum;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[table - 1][byte];
            tables[table][byte] = before >> 8 ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

/// The sum with `bytes` taken in; it begins with 0.
pub(super) fn update(mut sum: u64, bytes: &[u8]) -> u64 {
    let (chunks, rest) = bytes.as_chunks::<8>();
    for chunk in chunks {
        let mixed = (sum ^ u64::from_le_bytes(*chunk)).to_le_bytes();
        sum = mixed.iter().enumerate().fold(0, |sum, (at, &byte)| sum ^ TABLES[7 - at][usize::from(byte)]);
    }
    rest.iter().fold(sum, |sum, &byte| sum >> 8 ^ TABLES[0][usize::from(sum.to_le_bytes()[0] ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_vector_of_redis() {
        assert_eq!(update(0, b"123456789"), 0xe9c6_d914_c4b8_d9ca);
    }

    #[test]
    fn the_sum_does_not_depend_on_the_pieces() {
        let bytes: Vec<u8> = (0..=255).cycle().take(1_000).collect();
        let whole = update(0, &bytes);
        for piece in [1, 3, 7, 8, 9, 64] {
            assert_eq!(bytes.chunks(piece).fold(0, update), whole, "pieces of {piece}");
        }
    }
}
