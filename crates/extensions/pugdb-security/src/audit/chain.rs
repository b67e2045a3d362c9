//! The chain: the hash of a record is over the record and the hash before it.

use pugdb_core::DatabaseId;

/// A link of the chain.
pub type ChainHash = [u8; 32];

/// What stands before the first record.
pub const CHAIN_BEGIN: ChainHash = [0; 32];

/// Ends with a zero: it is the beginning of no other label.
const LABEL: &[u8] = b"pugdb 1 audit chain\0";

/// `BLAKE3(label | database | previous | record)`. All but the last part have a fixed length, so no two inputs are the same bytes.
pub fn chain(database: DatabaseId, previous: &ChainHash, record: &[u8]) -> ChainHash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(LABEL).update(&database.0).update(previous).update(record);
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_depends_on_all_that_goes_into_it() {
        let link = chain(DatabaseId([1; 16]), &CHAIN_BEGIN, b"record");
        assert_ne!(link, chain(DatabaseId([2; 16]), &CHAIN_BEGIN, b"record"));
        assert_ne!(link, chain(DatabaseId([1; 16]), &[1; 32], b"record"));
        assert_ne!(link, chain(DatabaseId([1; 16]), &CHAIN_BEGIN, b"recorD"));
    }
}
