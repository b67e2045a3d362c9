//! The section of a keyspace's creation: engine, how tables are made, partitions, name.

use pugdb_core::coding::Reader;
use pugdb_core::engine::EngineKind;
use pugdb_core::{Error, Result};

use crate::{PartitionMap, TreeOptions};

/// A keyspace comes into being.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Creation {
    /// What keeps its entries.
    pub engine: EngineKind,
    /// How its tables are made.
    pub options: TreeOptions,
    /// Which trees hold which keys, if it has several.
    pub partitions: Option<PartitionMap>,
    /// Its name.
    pub name: String,
}

impl Creation {
    /// The section's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.engine as u8];
        self.options.encode(&mut out);
        if let Some(map) = &self.partitions {
            map.encode_whole(&mut out);
        }
        out.extend_from_slice(self.name.as_bytes());
        out
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// `Corrupt` when it is no creation, `Unsupported` when this version does not know what it asks for.
    pub fn decode(section: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(section);
        let engine = EngineKind::from_number(reader.u8()?);
        let engine = engine.ok_or_else(|| Error::newer("the engine of a keyspace"))?;
        let options = TreeOptions::decode(&mut reader)?;
        let is_partitioned = engine == EngineKind::Partitioned;
        let partitions = is_partitioned.then(|| PartitionMap::decode_whole(&mut reader)).transpose()?;
        let name = String::from_utf8(reader.rest().to_vec());
        let name = name.map_err(|_| Error::corrupt("a keyspace's name is not UTF-8"))?;
        Ok(Self { engine, options, partitions, name })
    }
}

#[cfg(test)]
mod tests {
    use pugdb_core::KeyspaceId;

    use super::*;

    #[test]
    fn creations_round_trip_and_what_is_cut_before_the_name_is_corrupt() {
        let options = TreeOptions { filter_bits: 3, ..TreeOptions::default() };
        let map = PartitionMap::by_hash(3, KeyspaceId(8)).unwrap();
        for (engine, partitions) in [(EngineKind::Lsm, None), (EngineKind::Partitioned, Some(map))] {
            let creation = Creation { engine, options, partitions, name: "users".to_owned() };
            let bytes = creation.encode();
            assert_eq!(Creation::decode(&bytes).unwrap(), creation);
            for end in 0..bytes.len() - creation.name.len() {
                assert!(Creation::decode(&bytes[..end]).is_err());
            }
            assert!(Creation::decode(&[&bytes[..], &[255]].concat()).is_err(), "a name that is no UTF-8");
        }
    }
}
