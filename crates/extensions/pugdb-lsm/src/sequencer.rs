//! The sequencer: gives every operation its seqno, and alone relates seqnos to log positions.

use std::collections::VecDeque;

use pugdb_core::{Lsn, Seqno};

/// Counts operations. In a replicated tree another sequencer would derive seqnos from the consensus index; trees and
/// log cannot tell.
///
/// ```
/// use pugdb_core::{Lsn, Seqno};
/// use pugdb_lsm::Sequencer;
///
/// let mut sequencer = Sequencer::starting_after(Seqno(7));
/// assert_eq!(sequencer.reserve(3), Seqno(8));
/// sequencer.relate(Seqno(8), Lsn(4096));
/// assert_eq!(sequencer.reserve(1), Seqno(11));
/// assert_eq!(sequencer.log_needed_from(Seqno(9)), Some(Lsn(4096)));
/// ```
#[derive(Debug)]
pub struct Sequencer {
    next: Seqno,
    /// Operations from this seqno on lie at or after this position. Both ascend; one pair a log segment.
    marks: VecDeque<(Seqno, Lsn)>,
}

impl Sequencer {
    /// Goes on after everything that was ever used.
    pub fn starting_after(last: Seqno) -> Self {
        Self { next: last.plus(1), marks: VecDeque::new() }
    }

    /// Takes a run of `count` seqnos and returns the first.
    pub fn reserve(&mut self, count: u64) -> Seqno {
        let first = self.next;
        self.next = first.plus(count);
        first
    }

    /// Goes on after `last`, which the log has brought back.
    pub fn skip_to(&mut self, last: Seqno) {
        self.next = self.next.max(last.plus(1));
    }

    /// The last seqno that was given out.
    pub fn last(&self) -> Seqno {
        Seqno(self.next.0 - 1)
    }

    /// Operations from `seqno` on lie at or after `lsn`.
    pub fn relate(&mut self, seqno: Seqno, lsn: Lsn) {
        if self.marks.back().is_none_or(|&(_, last)| last < lsn) {
            self.marks.push_back((seqno, lsn));
        }
    }

    /// The position before which no operation at or after `seqno` lies, and forgets the earlier ones. `None` when
    /// nothing is known, which is to say: keep everything.
    pub fn log_needed_from(&mut self, seqno: Seqno) -> Option<Lsn> {
        let passed = self.marks.partition_point(|&(first, _)| first <= seqno);
        self.marks.drain(..passed.saturating_sub(1));
        self.marks.front().filter(|&&(first, _)| first <= seqno).map(|&(_, lsn)| lsn)
    }
}
