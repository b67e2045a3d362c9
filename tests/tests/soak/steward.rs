//! What happens to a whole database now and then: partitions are split and merged, keyspaces come and go, checkpoints are
//! made and removed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use pugdb::Database;

use crate::load::{Load, PARTITIONED, Spaces};

pub(crate) fn run(load: &Load, db: &Database, spaces: &Spaces, dir: &Path) {
    let _ends_all = load.guard();
    let every = (load.lasts / 40).clamp(Duration::from_millis(100), Duration::from_secs(4));
    for round in 0_usize.. {
        if !load.wait_for(every) {
            return;
        }
        match round % 6 {
            0 => passing_keyspace(db, round),
            1 => checkpoint(db, dir),
            2 => spaces.named(PARTITIONED).split_partition(round % 4, None, &mut |_| ()).unwrap(),
            3 => {
                // From the left, so that none becomes ever narrower.
                let number = (round - 1) % 4;
                spaces.named(PARTITIONED).merge_partitions(number, &mut |_| ()).unwrap();
            }
            4 => spaces.on_disk(round / 6).compact_range(..).unwrap(),
            _ => db.flush().unwrap(),
        }
    }
}

/// Made, written to, flushed every other time, and dropped.
fn passing_keyspace(db: &Database, round: usize) {
    let name = format!("passing {round}");
    let keyspace = db.keyspace(&name).unwrap();
    for number in 0..500_u32 {
        keyspace.put(number.to_be_bytes(), [7; 300]).unwrap();
    }
    if round.is_multiple_of(12) {
        db.flush().unwrap();
    }
    assert_eq!(keyspace.count().unwrap(), 500);
    assert!(db.drop_keyspace(&name).unwrap());
}

fn checkpoint(db: &Database, dir: &Path) {
    let checkpoint = dir.join("checkpoint");
    db.checkpoint(&checkpoint).unwrap();
    fs::remove_dir_all(&checkpoint).unwrap();
}
