//! What is not kept for ever: whole segments go, the oldest first, and the log says how far.

use std::time::Duration;

use pugdb::audit::{Action, AuditKeep, AuditOptions, OnFailure};
use pugdb_sim::World;

use super::{TARGET, against, is_well, log, open_with, options, records, segments, verify};

fn small(keep: AuditKeep) -> AuditOptions {
    AuditOptions { keep, segment_bytes: 4 << 10, checkpoint_records: 32, ..options(OnFailure::Block) }
}

fn churn(world: &World, options: &AuditOptions, times: u32) {
    let db = open_with(world, options.clone()).unwrap();
    for time in 0..times {
        db.keyspace("users").unwrap();
        db.drop_keyspace("users").unwrap();
        world.advance(Duration::from_mins(u64::from(time % 3)));
        world.run_until_idle();
    }
    db.close().unwrap();
}

#[test]
fn a_log_that_is_kept_short_verifies_and_says_what_it_has_lost() {
    let world = World::new(1);
    churn(&world, &small(AuditKeep::Bytes(16 << 10)), 120);
    let report = against(&world).unwrap();
    is_well(&report);
    assert!(report.first > 1 && report.bytes < 32 << 10, "{report:?}");
    assert!(report.against.unwrap().removed > 0);
    assert!(records(&world).iter().any(|record| record.event.action == Action::Trim));
    // What is kept can be proved, what is gone cannot.
    let (proof, checkpoint) = log(&world).prove(report.first).unwrap();
    proof.check(&checkpoint).unwrap();
    assert!(log(&world).prove(report.first - 1).is_err());
    // One more that goes is one too many.
    world.remove_file(&segments(&world)[0]).unwrap();
    assert!(verify(&world).unwrap().problem.unwrap().what.contains("no record says so"));
}

#[test]
fn what_is_too_old_goes() {
    let world = World::new(2);
    let options = small(AuditKeep::Age(Duration::from_hours(1)));
    churn(&world, &options, 40);
    assert_eq!(verify(&world).unwrap().first, 1);
    world.advance(Duration::from_hours(2));
    churn(&world, &options, 1);
    let report = verify(&world).unwrap();
    is_well(&report);
    assert!(report.first > 40, "{report:?}");
}

#[test]
fn a_removal_that_is_cut_off_anywhere_leaves_a_log_that_verifies() {
    pugdb_sim::check(TARGET, "a_removal_that_is_cut_off", 0..2, |seed| {
        let prepared = || {
            let world = World::new(seed);
            churn(&world, &small(AuditKeep::All), 20);
            assert!(segments(&world).len() > 2);
            world
        };
        let options = small(AuditKeep::Bytes(3 << 10));
        let calls = {
            let world = prepared();
            let before = world.calls();
            open_with(&world, options.clone()).unwrap();
            world.calls() - before
        };
        for call in (seed..calls).step_by(3) {
            let world = prepared();
            world.stop_at(world.calls() + call);
            drop(open_with(&world, options.clone()));
            let world = world.power_cut();
            is_well(&against(&world).unwrap());
            churn(&world, &options, 1);
            is_well(&against(&world).unwrap());
        }
    });
}
