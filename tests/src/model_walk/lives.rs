//! How lives end and begin, and what must be there in the next one.

use pugdb::{Durability, ErrorKind, Timestamp};
use pugdb_sim::ModelOp;

use super::{Handle, NAMES, Tally, Walk};
use crate::model_setup::{Place, canaries_shown, difference, is_refused, segments};

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Close,
    Drop,
    Kill,
}

impl Walk {
    pub(super) fn verify(&mut self) {
        let report = self.db().verify().expect("the database is open");
        assert_eq!(report.problems, Vec::<String>::new());
    }

    pub(super) fn check_state(&mut self, when: &str) {
        self.now();
        let difference = difference(self.db(), &self.model).expect("the disk is whole");
        assert!(difference.is_empty(), "{when}, model left and database right:\n{difference}");
    }

    pub(super) fn reopen(&mut self) {
        let end = match self.chance.random.u8(..3) {
            0 => End::Close,
            1 => End::Drop,
            _ => End::Kill,
        };
        self.end(end);
        self.tally.reopens += 1;
        self.tally.kills += usize::from(end == End::Kill);
        self.open();
        let report = self.db().recovery_report();
        self.tally.replayed += report.operations;
        if self.setup.place == Place::Disk {
            let is_whole = report.cut.is_none() && report.manifest_cut_bytes == 0 && !report.created;
            assert!(is_whole, "after {end:?}: {report}");
            assert_eq!(report.clean, end != End::Kill, "after {end:?}: {report}");
            assert!(end != End::Close || report.operations == 0, "after {end:?}: {report}");
        }
        self.check_state(&format!("after {end:?}"));
    }

    fn end(&mut self, end: End) {
        let now = self.now();
        self.note_stats();
        self.views.clear();
        self.scans.clear();
        let opened = self.opened.take().expect("it is None only within reopen");
        match end {
            End::Close => {
                opened.db.close().expect("the disk is whole");
                assert!(is_refused(&opened.db.keyspaces(), ErrorKind::Closed));
                self.logged_time = now;
            }
            End::Drop => self.logged_time = now,
            End::Kill => self.world = self.world.kill(),
        }
        self.stale.clear();
        self.handles.clear();
        drop(opened);
        if self.setup.place == Place::Memory {
            self.logged_time = Timestamp(0);
        }
        self.time = self.logged_time;
        for (canary, shown) in self.tally.shown.iter_mut().zip(canaries_shown(&self.world)) {
            *canary |= shown;
        }
    }

    fn note_stats(&mut self) {
        let stats = self.db().stats().expect("the database is open");
        let slow = self.opened.as_ref().and_then(|opened| opened.slow.as_ref());
        self.tally.slow_reads += slow.map_or(0, |slow| slow.calls());
        self.tally.flushes += stats.flushes;
        self.tally.compactions += stats.compactions;
        self.tally.folded += stats.folded;
        assert_eq!(stats.quarantined, 0);
        let segments = segments(&self.world);
        self.tally.segment_last = segments.iter().copied().max().unwrap_or(0).max(self.tally.segment_last);
        self.tally.segments_max = self.tally.segments_max.max(segments.len());
    }

    pub(super) fn open(&mut self) {
        let durability = if self.chance.random.u8(..4) == 0 { Durability::Os } else { Durability::Sync };
        let opened = self.setup.open(&self.world, durability).expect("every file is as it was written");
        self.opened = Some(opened);
        let existing = self.model.state(self.model.commits(), Timestamp(0)).into_keys();
        for name in existing.collect::<Vec<_>>() {
            let name = NAMES.into_iter().find(|known| *known == name).expect("the walk made it");
            if self.setup.place == Place::Memory {
                // A memory engine that is opened again is empty.
                self.commit(&[ModelOp::DropKeyspace(name.into())]);
                continue;
            }
            if self.is_volatile(name) {
                self.model.forget_volatile(name);
            }
            let keyspace = self.db().existing_keyspace(name).expect("the database is open");
            let keyspace = keyspace.expect("a keyspace survives");
            let engine = if self.is_volatile(name) { self.setup.volatile } else { self.setup.durable() };
            assert_eq!((&*keyspace.name(), keyspace.engine()), (name, engine));
            self.handles.insert(name, Handle { number: self.model.commits(), keyspace });
        }
        self.now();
    }

    pub(super) fn finish(mut self) -> Tally {
        while !self.scans.is_empty() {
            self.continue_scan();
        }
        while !self.views.is_empty() {
            self.read_view();
            self.drop_view();
        }
        self.check_state("at the end");
        self.reopen();
        self.world.run_until_idle();
        self.verify();
        self.end(End::Close);
        self.tally
    }
}
