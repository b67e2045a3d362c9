//! Merges runs: shows the versions of all of them in one order, each where it lies. Nothing is allocated for an entry.
//!
//! Runs are few, so the next one is found by looking at eight bytes of each, side by side; a key is looked at only where
//! those are the same.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{self, AtomicU64};

use pugdb_core::{Error, FileId, Key, Result};

use crate::table::{Peek, TableCursor, head_of};
use crate::tree::LiveTable;
use crate::values::Separation;

/// The versions of several runs: keys ascending, newest first within a key.
pub(super) struct Merge {
    sources: Vec<Source>,
    /// Of what each source is at.
    heads: Vec<u64>,
    /// All keys begin with as many bytes alike: the heads are what follows.
    common: usize,
    /// The source that was shown last, and has not gone on yet.
    shown: Option<usize>,
    is_begun: bool,
    meter: Arc<AtomicU64>,
}

/// A run being merged: its tables one after the other.
struct Source {
    cursor: (FileId, TableCursor),
    left: VecDeque<(FileId, TableCursor)>,
}

/// What went wrong, and in which input, if it was in one.
pub(super) struct Damage {
    pub(super) file: Option<FileId>,
    pub(super) error: Error,
}

impl Source {
    /// False at the end.
    fn advance(&mut self) -> Result<bool, Damage> {
        loop {
            let (file, cursor) = &mut self.cursor;
            if cursor.advance().map_err(|error| Damage { file: Some(*file), error })? {
                return Ok(true);
            }
            let Some(next) = self.left.pop_front() else { return Ok(false) };
            self.cursor = next;
        }
    }

    fn current(&self) -> Option<Peek<'_>> {
        self.cursor.1.current()
    }
}

impl Merge {
    /// Begins before the first version of all. Of each run there are some tables, in key order; only keys before `before`
    /// are shown. Values that do not stay in their value files are shown as if they lay in the tables.
    ///
    /// # Errors
    /// `Corrupt` when a table is damaged, and in quarantine now; what the store says when it cannot be read.
    pub(super) fn new(
        runs: &[Vec<Arc<LiveTable>>],
        before: Option<&Key>,
        separation: &Arc<Separation>,
    ) -> Result<Self> {
        let bounds = || runs.iter().flatten().map(|live| live.bounds());
        let (first, last) =
            (bounds().map(|bounds| &bounds.first).min(), bounds().map(|bounds| &bounds.last).max());
        let common = first.zip(last).map_or(0, |(first, last)| {
            first.iter().zip(last.iter()).take_while(|(one, other)| one == other).count()
        });
        let (mut sources, meter) = (Vec::new(), Arc::default());
        for tables in runs {
            let cursor = |live: &Arc<LiveTable>| {
                let cursor = live.opened_by_job()?.cursor(before.cloned());
                Ok((live.id(), cursor.moving(Arc::clone(separation)).metered(&meter)))
            };
            let mut left = tables.iter().map(cursor).collect::<Result<VecDeque<_>>>()?;
            if let Some(cursor) = left.pop_front() {
                sources.push(Source { cursor, left });
            }
        }
        let heads = Vec::with_capacity(sources.len());
        Ok(Self { heads, sources, common, shown: None, is_begun: false, meter })
    }

    /// How many bytes it has read from the store.
    pub(super) fn bytes_read(&self) -> u64 {
        self.meter.load(atomic::Ordering::Relaxed)
    }

    /// The next version of all; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Peek<'_>>, Damage> {
        if self.is_begun {
            self.go_on()?;
        } else {
            self.begin()?;
        }
        let Some(mut best) = (!self.heads.is_empty()).then_some(0) else { return Ok(None) };
        for other in 1..self.heads.len() {
            let is_smaller = match self.heads[other].cmp(&self.heads[best]) {
                Ordering::Less => true,
                Ordering::Equal => self.comes_before(other, best),
                Ordering::Greater => false,
            };
            best = if is_smaller { other } else { best };
        }
        self.shown = Some(best);
        Ok(self.sources[best].current())
    }

    fn begin(&mut self) -> Result<(), Damage> {
        let mut number = 0;
        while number < self.sources.len() {
            if self.sources[number].advance()? {
                self.heads.push(self.head(number));
                number += 1;
            } else {
                self.sources.remove(number);
            }
        }
        self.is_begun = true;
        Ok(())
    }

    /// Leaves what was shown last.
    fn go_on(&mut self) -> Result<(), Damage> {
        let Some(shown) = self.shown.take() else { return Ok(()) };
        if self.sources[shown].advance()? {
            self.heads[shown] = self.head(shown);
        } else {
            self.sources.remove(shown);
            self.heads.remove(shown);
        }
        Ok(())
    }

    fn head(&self, source: usize) -> u64 {
        let key = self.sources[source].current().map_or(&[][..], |shown| shown.op.key);
        head_of(key.get(self.common..).unwrap_or_default())
    }

    fn comes_before(&self, one: usize, other: usize) -> bool {
        let (one, other) = (self.sources[one].current(), self.sources[other].current());
        one.zip(other).is_some_and(|(one, other)| {
            one.op.key.cmp(other.op.key).then(other.seqno.cmp(&one.seqno)).is_lt()
        })
    }
}
