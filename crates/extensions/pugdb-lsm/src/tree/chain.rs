//! Reads a key whose newest version is an operand: collects its operands down to their base, and folds them. Read path, step 6.
//!
//! ```text
//! newest                                                      oldest
//! operand operand operand │ operand operand │ operand operand  base
//!                         portions of bounded length
//! ```
//!
//! The versions are met newest first and must be folded oldest first. A chain that is longer than a portion is walked a
//! second time, a portion after the other, so that no chain takes more memory than a portion and its value.

use std::ops::ControlFlow;

use pugdb_core::engine::ReadPoint;
use pugdb_core::seam::{AtHand, Wait};
use pugdb_core::{Entry, EntryKind, Found, Result, Seqno, Value};

use super::Version;
use crate::table::{KeyHash, Located};

/// Operands that are held in memory together take no more, or are one.
pub(super) const PORTION_BYTES_MAX: usize = 4 << 20;
/// What an operand takes beside its bytes.
pub(super) const OPERAND_OVERHEAD_BYTES: usize = 64;

/// What is met on the way down: operands of one portion, and what they rest on.
#[derive(Default)]
struct Chain {
    /// Where each portion begins, the newest first.
    begins: Vec<Seqno>,
    /// The operands of the last portion, the newest first.
    portion: Vec<Value>,
    bytes: usize,
    base: Option<Located>,
}

impl Chain {
    /// Takes the next older version.
    fn take(&mut self, located: Located) -> ControlFlow<()> {
        if located.found.entry.kind != EntryKind::Operand {
            self.base = Some(located);
            return ControlFlow::Break(());
        }
        let Found { seqno, entry } = located.found;
        let bytes = entry.value.len() + OPERAND_OVERHEAD_BYTES;
        if self.begins.is_empty() || self.bytes + bytes > PORTION_BYTES_MAX {
            self.begins.push(seqno);
            self.portion.clear();
            self.bytes = 0;
        }
        self.bytes += bytes;
        self.portion.push(entry.value);
        ControlFlow::Continue(())
    }
}

impl Version {
    /// What a reader sees of a key whose newest version above `floor` is an operand. A base that has expired for the reader is
    /// none.
    #[cold]
    pub(super) fn fold(
        &self,
        key: &[u8],
        point: ReadPoint,
        floor: Seqno,
        wait: Wait,
    ) -> Result<AtHand<Option<Found>>> {
        let operator = self.merging.operator()?;
        let mut chain = Chain::default();
        let walked =
            self.visit_versions(key, (point.seqno, floor), wait, &mut |located| chain.take(located))?;
        if walked == AtHand::WouldBlock {
            return Ok(AtHand::WouldBlock);
        }
        let mut base = match chain.base.take().filter(|base| base.found.entry.is_live(point.now)) {
            Some(base) => match base.fetch(wait)? {
                AtHand::Yes(found) => Some(found.entry),
                AtHand::WouldBlock => return Ok(AtHand::WouldBlock),
            },
            None => None,
        };
        let Some(&seqno) = chain.begins.first() else { return Ok(AtHand::Yes(None)) };
        if let Some(base) = base.take_if(|base| base.seal.is_some()) {
            // Nothing is merged into what only its subject's key opens. Whoever asks for the value is told.
            let entry = Entry { kind: EntryKind::Operand, ..base };
            return Ok(AtHand::Yes(Some(Found { seqno, entry })));
        }
        let mut value = base.as_ref().map(|base| base.value.clone());
        while let Some(begin) = chain.begins.pop() {
            let operands: Vec<&[u8]> = chain.portion.iter().rev().map(|operand| &**operand).collect();
            value = Some(operator.merge(key, value.as_deref(), &operands)?);
            let Some(&next) = chain.begins.last() else { break };
            let mut newer = Chain::default();
            let walked = self.visit_versions(key, (next, begin), wait, &mut |located| newer.take(located))?;
            if walked == AtHand::WouldBlock {
                return Ok(AtHand::WouldBlock);
            }
            chain.portion = newer.portion;
        }
        let value = value.unwrap_or_default();
        let entry = Entry { value, ..base.unwrap_or_else(|| Entry::put(Value::default())) };
        Ok(AtHand::Yes(Some(Found { seqno, entry })))
    }

    /// Shows the versions of a key from `newest` on and above `floor`, the newest first.
    fn visit_versions(
        &self,
        key: &[u8],
        (newest, floor): (Seqno, Seqno),
        wait: Wait,
        visit: &mut dyn FnMut(Located) -> ControlFlow<()>,
    ) -> Result<AtHand<()>> {
        let mut visit = |located: Located| {
            if located.found.seqno > floor { visit(located) } else { ControlFlow::Break(()) }
        };
        for memtable in &self.memtables {
            if memtable.visit_key(key, newest, &mut |found| visit(found.into())).is_break() {
                return Ok(AtHand::Yes(()));
            }
        }
        let hash = KeyHash::of(key);
        for run in self.runs.iter() {
            let Some(live) = run.table_for(key, floor) else { continue };
            let AtHand::Yes(table) = live.table(wait)? else { return Ok(AtHand::WouldBlock) };
            match table.visit_key(key, hash, newest, wait, &mut visit)? {
                AtHand::Yes(ControlFlow::Continue(())) => {}
                AtHand::Yes(ControlFlow::Break(())) => break,
                AtHand::WouldBlock => return Ok(AtHand::WouldBlock),
            }
        }
        Ok(AtHand::Yes(()))
    }
}
