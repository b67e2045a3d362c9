//! What `serve` takes here when nothing is said, and why. Pure.

use pugdb::Sizes;
use serde::Serialize;

use crate::sizing::Choice;
use crate::text::human_bytes;

/// A line of the table.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Size {
    setting: &'static str,
    takes: usize,
    why: String,
}

impl Size {
    pub(super) fn row(&self) -> [String; 3] {
        let takes = if self.setting.ends_with("_bytes") {
            human_bytes(self.takes as u64)
        } else {
            self.takes.to_string()
        };
        [self.setting.to_owned(), takes, self.why.clone()]
    }
}

/// What the machine gives beside memory.
#[derive(Clone, Copy)]
pub(super) struct Given {
    pub(super) processors: usize,
    /// `None`: as many as wanted.
    pub(super) open_files: Option<u64>,
    /// What the server makes of the processors.
    pub(super) server_threads: usize,
}

pub(super) fn sizes(memory: &Choice, sizes: &Sizes, given: Given) -> Vec<Size> {
    let size = |setting, takes, why: String| Size { setting, takes, why };
    let processors = match given.processors {
        1 => "1 processor".to_owned(),
        many => format!("{many} processors"),
    };
    let files = given.open_files.map_or_else(|| "unlimited".to_owned(), |files| files.to_string());
    vec![
        size("memory_bytes", memory.bytes, memory.why.clone()),
        size("cache_bytes", sizes.cache_bytes, "a quarter of the memory".to_owned()),
        size("memtable_bytes", sizes.memtable_bytes, "an eighth of the memory, at most 64 MiB".to_owned()),
        size("compaction_jobs", sizes.compaction_jobs, format!("half of {processors}, 1 to 4")),
        size("server_threads", given.server_threads, format!("{processors}, and 2 for commands that wait")),
        size(
            "table_files_max",
            sizes.table_files_max,
            format!("a quarter of {files} open files, 16 to 4096"),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use pugdb::Database;

    use super::*;

    #[test]
    fn the_table_names_each_size_and_its_reason() {
        let memory = Choice { bytes: 64 << 20, why: "as asked for".to_owned() };
        let taken =
            Database::builder().memory_bytes(memory.bytes).compaction_jobs(1).table_files_max(16).sizes();
        let given = Given { processors: 1, open_files: None, server_threads: 3 };
        let rows: Vec<String> =
            sizes(&memory, &taken, given).iter().map(|size| size.row().join("|")).collect();
        assert_eq!(
            rows,
            [
                "memory_bytes|64.0 MiB|as asked for",
                "cache_bytes|16.0 MiB|a quarter of the memory",
                "memtable_bytes|8.0 MiB|an eighth of the memory, at most 64 MiB",
                "compaction_jobs|1|half of 1 processor, 1 to 4",
                "server_threads|3|1 processor, and 2 for commands that wait",
                "table_files_max|16|a quarter of unlimited open files, 16 to 4096",
            ]
        );
    }
}
