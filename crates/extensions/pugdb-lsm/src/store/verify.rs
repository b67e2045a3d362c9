//! The full walk through the tables.

use pugdb_core::Result;

use super::Store;

/// What a walk through all tables found.
#[derive(Clone, Debug, Default)]
pub struct StoreVerify {
    /// Tables that were read.
    pub tables: usize,
    /// Their blocks.
    pub blocks: u64,
    /// Their entries.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Values in value files.
    pub values: u64,
    /// The bytes of their records.
    pub value_bytes: u64,
    /// What is wrong, one sentence each.
    pub problems: Vec<String>,
}

impl Store {
    /// Reads every table of every keyspace again from disk.
    ///
    /// # Errors
    /// None: what cannot be read is a problem in the report.
    pub fn verify(&self) -> Result<StoreVerify> {
        let mut report = StoreVerify::default();
        let trees: Vec<_> = self.trees.read().values().cloned().collect();
        for tree in trees {
            // The version is kept while its tables are read: none of them is unlinked meanwhile.
            let version = tree.version();
            for live in version.runs.iter().flat_map(|run| &run.tables) {
                report.tables += 1;
                match live.verify() {
                    Ok(summary) => {
                        report.blocks += summary.blocks;
                        report.entries += summary.entries;
                        report.bytes += summary.bytes;
                        report.values += summary.values;
                        report.value_bytes += summary.value_bytes;
                    }
                    Err(error) => report.problems.push(error.to_string()),
                }
            }
        }
        Ok(report)
    }
}
