//! Where the audit log goes on when a database is opened: behind the last whole record, which is made durable first.

use pugdb_core::coding::index;
use pugdb_core::env::{Access, File};
use pugdb_core::{Error, ErrorKind, Result};
use pugdb_lsm::file::Context;
use pugdb_security::audit::{chain, leaf};

use super::segment::{Item, SegmentReader, Stand, Tail, folder, list, path, remove_unfinished};

/// What an open has found.
pub(super) struct Recovered {
    /// The number of the last segment; 0 when there is none.
    pub(super) segment: u64,
    pub(super) stand: Stand,
    /// Bytes of records that were never durable.
    pub(super) torn_bytes: u64,
    /// Something was damaged that a crash does not damage.
    pub(super) is_damaged: bool,
}

/// Finds the end, reading as few segments as can be: the last one, or, where that is damaged, the one before.
pub(super) fn recover(context: &Context) -> Result<Recovered> {
    let (fs, folder) = (&*context.env.fs, folder(context));
    let doing = |error| Error::io("open the audit log", error);
    fs.create_dir_all(&folder).map_err(doing)?;
    fs.sync_dir(&context.dir).map_err(doing)?;
    remove_unfinished(fs, &folder);
    // What is read may have been named by a process that was killed: the next segment must not outlive its name.
    fs.sync_dir(&folder).map_err(doing)?;
    let numbers = list(fs, &folder)?;
    let segment = numbers.last().copied().unwrap_or(0);
    let mut is_damaged = false;
    for &number in numbers.iter().rev() {
        match end_of(context, number) {
            Ok((stand, tail)) => {
                let torn_bytes = settle(context, number, &tail)?;
                is_damaged |= matches!(tail, Tail::Damaged { .. });
                return Ok(Recovered { segment, stand, torn_bytes, is_damaged });
            }
            // Whatever somebody has put there, it keeps nobody from going on.
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Denied) => is_damaged = true,
            Err(error) => return Err(error),
        }
    }
    Ok(Recovered { segment, stand: Stand::default(), torn_bytes: 0, is_damaged })
}

/// Where a segment ends.
fn end_of(context: &Context, number: u64) -> Result<(Stand, Tail)> {
    let mut reader = SegmentReader::open(context, number)?;
    let mut stand = reader.start.stand.clone();
    loop {
        match reader.next()? {
            Item::Record { bytes, record } if record.number == stand.next() => {
                stand.last = chain(context.database, &stand.last, &bytes);
                stand.tree.push(leaf(&stand.last));
            }
            Item::Record { .. } => {
                let what = "a record is not the one that follows".to_owned();
                return Ok((stand, Tail::Damaged { what }));
            }
            Item::Checkpoint(_) => {}
            Item::End(tail) => return Ok((stand, tail)),
        }
    }
}

/// Segments are written again in pieces of this size.
const REWRITE_BYTES: usize = 1 << 20;

fn rewrite(file: &dyn File) -> std::io::Result<()> {
    let (end, mut offset) = (file.length()?, 0);
    let mut buffer = vec![0; REWRITE_BYTES.min(index(end))];
    while offset < end {
        let piece = &mut buffer[..REWRITE_BYTES.min(index(end - offset))];
        file.read_exact_at(piece, offset)?;
        file.write_at(piece, offset)?;
        offset += piece.len() as u64;
    }
    Ok(())
}

/// Makes durable what was found, and cuts off what was never whole. Damage is left as it is: somebody will want to see it.
fn settle(context: &Context, number: u64, tail: &Tail) -> Result<u64> {
    let doing = |error| Error::io("make the audit log durable", error);
    let cut = match tail {
        Tail::Damaged { .. } => return Ok(0),
        Tail::Whole => None,
        Tail::Torn { offset, bytes } => Some((*offset, *bytes)),
    };
    let file = context.env.fs.open(&path(context, number), Access::ReadWrite).map_err(doing)?;
    if let Some((offset, _)) = cut {
        file.truncate(offset).map_err(doing)?;
    }
    // What was read may be in the operating system's cache alone, and after a failed sync it counts as clean there. So the same bytes are
    // written in the same place once more.
    rewrite(&*file).and_then(|()| file.sync_data()).map_err(doing)?;
    Ok(cut.map_or(0, |(_, bytes)| bytes))
}
