//! `compact`: merges what a keyspace has on disk.

use serde_json::json;

use crate::arguments::CompactArguments;
use crate::outcome::{Exit, Failure};
use crate::output::{Answer, Format, answer_json};
use crate::target::Access;
use crate::text::human_bytes;

pub(crate) fn compact(arguments: &CompactArguments, format: Format) -> Result<Exit, Failure> {
    arguments.target.check_local("compact")?;
    let local = arguments.target.open_local(Access::Existing)?;
    let keyspace = local.existing()?;
    // In tables, as all of it is after.
    local.db.flush()?;
    let before = local.db.stats()?;
    keyspace.compact_range(..)?;
    let after = local.db.stats()?;
    let written = after.compacted_bytes - before.compacted_bytes;
    if format == Format::Json {
        answer_json(&json!({
            "table_bytes_before": before.table_bytes,
            "table_bytes": after.table_bytes,
            "value_bytes_before": before.value_bytes,
            "value_bytes": after.value_bytes,
            "written_bytes": written,
        }))?;
        return Ok(Exit::Done);
    }
    let mut stdout = Answer::new();
    stdout.line(&format!(
        "tables took {}, and take {}; {} written",
        human_bytes(before.table_bytes + before.value_bytes),
        human_bytes(after.table_bytes + after.value_bytes),
        human_bytes(written),
    ))?;
    stdout.finish()?;
    Ok(Exit::Done)
}
