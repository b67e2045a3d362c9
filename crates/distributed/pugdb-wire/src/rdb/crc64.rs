//! The checksum of RDB: CRC-64 with the polynomial of Jones, reflected, starting at zero.

/// The polynomial `0xad93d23594c935a9`, its bits in the reflected order.
const POLYNOMIAL: u64 = 0x95ac_9329_ac4b_c9b5;

/// For each byte of eight in a row: what it leaves of the remainder. So eight bytes cost eight look-ups and no shifts
/// between them.
static TABLES: [[u64; 256]; 8] = tables();

const fn tables() -> [[u64; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut remainder = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            remainder = if remainder & 1 == 1 { (remainder >> 1) ^ POLYNOMIAL } else { remainder >> 1 };
            bit += 1;
        }
        tables[0][byte] = remainder;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[table - 1][byte];
            tables[table][byte] = (before >> 8) ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

/// Continues a checksum over more bytes. It starts with 0.
///
/// ```
/// use pugdb_wire::rdb::crc64;
///
/// assert_eq!(crc64(0, b"123456789"), 0xe9c6_d914_c4b8_d9ca);
/// assert_eq!(crc64(crc64(0, b"1234"), b"56789"), crc64(0, b"123456789"));
/// ```
#[must_use]
pub fn crc64(start: u64, bytes: &[u8]) -> u64 {
    let (eights, rest) = bytes.as_chunks::<8>();
    let mut crc = start;
    for eight in eights {
        let mixed = (crc ^ u64::from_le_bytes(*eight)).to_le_bytes();
        crc = mixed.iter().zip(TABLES.iter().rev()).fold(0, |crc, (byte, table)| crc ^ look_up(table, *byte));
    }
    rest.iter().fold(crc, |crc, byte| {
        let [low, ..] = crc.to_le_bytes();
        (crc >> 8) ^ look_up(&TABLES[0], low ^ byte)
    })
}

fn look_up(table: &[u64; 256], byte: u8) -> u64 {
    table[usize::from(byte)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// By the definition, bit by bit.
    fn slow(bytes: &[u8]) -> u64 {
        bytes.iter().fold(0, |crc, byte| {
            (0..8)
                .fold(crc ^ u64::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { POLYNOMIAL } else { 0 })
        })
    }

    #[test]
    fn the_check_value_of_jones_comes_out() {
        assert_eq!(crc64(0, b"123456789"), 0xe9c6_d914_c4b8_d9ca);
        assert_eq!(crc64(0, b""), 0);
    }

    proptest! {
        #[test]
        fn eight_bytes_at_once_are_eight_bytes_in_a_row(bytes: Vec<u8>, cut in 0_usize..64) {
            prop_assert_eq!(crc64(0, &bytes), slow(&bytes));
            let (front, back) = bytes.split_at(cut.min(bytes.len()));
            prop_assert_eq!(crc64(crc64(0, front), back), slow(&bytes));
        }
    }
}
