//! What somebody does to the log who can write the disk, without the keys and with them, and what finds him out.

use std::sync::Arc;

use pugdb::audit::{Action, Actor, AuditKeep, AuditOptions, AuditReport, Checkpoint, Event, OnFailure};
use pugdb::env::Access;
use pugdb::seam::Plain;
use pugdb::{ErrorKind, FileId};
use pugdb_lsm::checksum::Checksum;
use pugdb_lsm::file::FileHeader;
use pugdb_lsm::frame::{FrameEncoder, FrameReader, Step, first_offset};
use pugdb_sim::World;

use super::{
    COPY, DIR, FOLDER, against, copy_of, encrypted, is_well, known, log, open, options, put_back, records,
    segments, verify,
};

/// Three lives, a segment each.
fn history(seed: u64) -> World {
    let world = World::new(seed);
    for life in 0..3 {
        let db = open(&world).unwrap();
        for name in ["users", "orders", "names"] {
            db.keyspace(&format!("{name}-{life}")).unwrap();
        }
        db.close().unwrap();
    }
    assert_eq!(segments(&world).len(), 3);
    is_well(&verify(&world).unwrap());
    is_well(&against(&world).unwrap());
    world
}

/// The frames of a segment behind the one that it begins with: where each lies.
fn frames(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let number =
        |at: usize| usize::try_from(u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())).unwrap();
    let mut at = number(12).next_multiple_of(8);
    let mut frames = Vec::new();
    while at < bytes.len() {
        let end = (at + 32 + number(at + 4)).next_multiple_of(8);
        frames.push(at..end);
        at = end;
    }
    frames.split_off(1)
}

/// Changes a segment by its frames.
fn rewrite(world: &World, segment: usize, change: impl FnOnce(&[u8], &mut Vec<std::ops::Range<usize>>)) {
    let path = &segments(world)[segment];
    let bytes = world.read_file(path).unwrap();
    let mut frames = frames(&bytes);
    let begin = frames[0].start;
    change(&bytes, &mut frames);
    let frames = frames.into_iter().flat_map(|frame| bytes[frame].to_vec());
    world.write_file(path, &bytes[..begin].iter().copied().chain(frames).collect::<Vec<_>>()).unwrap();
}

#[track_caller]
fn is_noticed(world: &World, segment: u64) -> u64 {
    let report = verify(world).unwrap();
    let problem = report.problem.unwrap();
    assert_eq!(problem.segment, segment, "{problem}");
    // Who reads the log is told, too, behind what is as it was.
    let error = log(world).records(&mut |_| Ok(true)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    problem.record
}

#[test]
fn a_record_that_is_taken_out_is_missed() {
    let world = history(1);
    // The open, and two for each keyspace.
    rewrite(&world, 1, |_, frames| {
        frames.remove(3);
    });
    let first_of_second = 9;
    assert_eq!(is_noticed(&world, 2), first_of_second + 3);
}

#[test]
fn records_in_another_order_are_noticed() {
    let world = history(2);
    rewrite(&world, 1, |_, frames| frames.swap(2, 3));
    assert_eq!(is_noticed(&world, 2), 11);
}

#[test]
fn a_record_that_is_there_twice_is_noticed() {
    let world = history(3);
    rewrite(&world, 1, |_, frames| frames.insert(3, frames[2].clone()));
    assert_eq!(is_noticed(&world, 2), 12);
}

#[test]
fn a_record_of_another_segment_is_noticed() {
    let world = history(4);
    let other = world.read_file(&segments(&world)[0]).unwrap();
    let (path, frame) = (&segments(&world)[1], frames(&other)[2].clone());
    let mut bytes = world.read_file(path).unwrap();
    let at = frames(&bytes)[2].start;
    bytes[at..at + frame.len()].copy_from_slice(&other[frame]);
    world.write_file(path, &bytes).unwrap();
    assert_eq!(is_noticed(&world, 2), 11);
}

/// True when nothing of the records is another one than it was.
fn is_as_it_was(report: &AuditReport, before: &AuditReport) -> bool {
    (report.last, report.link, report.root, report.first)
        == (before.last, before.link, before.root, before.first)
}

/// A byte of the padding between two frames means nothing. At the very end a damaged record looks as one that a crash has torn: the chain alone shows
/// that it is gone, but not that it was there.
#[test]
fn each_byte_of_each_segment_counts_or_means_nothing() {
    let world = history(5);
    let (log, known) = (log(&world), known(&world));
    let before = log.verify(None).unwrap();
    for (number, path) in segments(&world).iter().enumerate() {
        let length = world.read_file(path).unwrap().len();
        for at in 0..length {
            let bit = u8::try_from(at % 8).unwrap();
            world.flip_bit(path, at as u64, bit).unwrap();
            if let Ok(report) = log.verify(None) {
                let is_torn = number == 2 && report.torn_bytes > 0 && report.last <= before.last;
                assert!(
                    report.problem.is_some() || is_as_it_was(&report, &before) || is_torn,
                    "segment {number}, byte {at}"
                );
            }
            if let Ok(report) = log.verify(Some(&known)) {
                let is_found = report.problem.is_some() || is_as_it_was(&report, &before);
                assert!(is_found, "against the second place: segment {number}, byte {at}");
            }
            world.flip_bit(path, at as u64, bit).unwrap();
        }
    }
    is_well(&log.verify(Some(&known)).unwrap());
}

#[test]
fn a_segment_that_is_cut_at_any_offset_is_noticed_but_for_the_end_of_the_last_one() {
    let world = history(6);
    let (log, known) = (log(&world), known(&world));
    let before = log.verify(None).unwrap();
    for (number, path) in segments(&world).iter().enumerate() {
        let bytes = world.read_file(path).unwrap();
        for at in 0..bytes.len() {
            world.write_file(path, &bytes[..at]).unwrap();
            let is_last = number == 2;
            if let Ok(report) = log.verify(None) {
                // Behind the last record there is a checkpoint, which says nothing of its own absence.
                let is_fine = report.problem.is_some() || is_as_it_was(&report, &before);
                assert!(is_fine || is_last, "segment {number}, cut at {at}");
            }
            if let Ok(report) = log.verify(Some(&known)) {
                let is_fine = report.problem.is_some() || is_as_it_was(&report, &before);
                assert!(is_fine, "against the second place: segment {number}, cut at {at}");
            }
        }
        world.write_file(path, &bytes).unwrap();
    }
}

#[test]
fn an_end_that_was_cut_off_is_found_by_the_second_place_alone() {
    let world = history(7);
    rewrite(&world, 2, |_, frames| frames.truncate(3));
    let report = verify(&world).unwrap();
    is_well(&report);
    assert!(!report.is_closed && report.last == 19);
    let problem = against(&world).unwrap().problem.unwrap();
    assert_eq!((problem.record, problem.segment), (20, 3));
    assert!(problem.what.contains("its end was taken away"), "{problem}");
    // Who opens it goes on, if he must, and the second place remembers.
    assert_eq!(open(&world).unwrap_err().kind(), ErrorKind::Corrupt);
    super::open_with(&world, options(OnFailure::Continue)).unwrap().close().unwrap();
    assert!(against(&world).unwrap().problem.is_some());
    assert!(records(&world).iter().any(|record| record.event.action == Action::Damage));
}

#[test]
fn whole_segments_at_the_end_are_missed_by_the_second_place_alone() {
    let world = history(8);
    for kept in [2, 1] {
        world.remove_file(&segments(&world)[kept]).unwrap();
        is_well(&verify(&world).unwrap());
        assert_eq!(against(&world).unwrap().problem.unwrap().record, kept as u64 * 8 + 1);
    }
    world.remove_file(&segments(&world)[0]).unwrap();
    assert_eq!(verify(&world).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_segment_in_the_middle_or_at_the_beginning_is_missed() {
    let world = history(9);
    let files = copy_of(&world, FOLDER);
    world.remove_file(&files[1].0).unwrap();
    assert_eq!(is_noticed(&world, 1), 9);
    put_back(&world, FOLDER, &files);
    world.remove_file(&files[0].0).unwrap();
    let problem = verify(&world).unwrap().problem.unwrap();
    assert!(problem.record == 1 && problem.what.contains("no record says so"), "{problem}");
}

#[test]
fn segments_that_exchange_their_names_are_noticed() {
    let world = history(10);
    let files = copy_of(&world, FOLDER);
    for (one, other) in [(0, 1), (1, 2), (0, 2)] {
        world.write_file(&files[one].0, &files[other].1).unwrap();
        world.write_file(&files[other].0, &files[one].1).unwrap();
        assert!(verify(&world).unwrap().problem.is_some(), "{one} and {other}");
        put_back(&world, FOLDER, &files);
    }
}

#[test]
fn an_older_copy_of_a_segment_is_noticed_where_another_one_follows_and_by_the_second_place() {
    let world = World::new(11);
    let db = open(&world).unwrap();
    db.keyspace("users").unwrap();
    let older = copy_of(&world, FOLDER);
    db.keyspace("orders").unwrap();
    db.close().unwrap();
    let newer = copy_of(&world, FOLDER);
    put_back(&world, FOLDER, &older);
    is_well(&verify(&world).unwrap());
    assert_eq!(against(&world).unwrap().problem.unwrap().record, 4);
    put_back(&world, FOLDER, &newer);
    open(&world).unwrap().close().unwrap();
    world.write_file(&older[0].0, &older[0].1).unwrap();
    assert_eq!(is_noticed(&world, 1), 4);
}

#[test]
fn two_histories_from_one_beginning_are_told_apart_by_the_second_place() {
    let world = history(12);
    let before = copy_of(&world, DIR);
    let db = open(&world).unwrap();
    db.drop_keyspace("users-0").unwrap();
    db.close().unwrap();
    is_well(&against(&world).unwrap());
    // With the disk, the keyring and the root key: as if that had never been.
    put_back(&world, DIR, &before);
    let db = encrypted(&world).audit(options(OnFailure::Block)).open(DIR).unwrap();
    db.keyspace("more").unwrap();
    db.close().unwrap();
    is_well(&verify(&world).unwrap());
    let problem = against(&world).unwrap().problem.unwrap();
    assert_eq!(problem.record, 25, "{problem}");
    assert!(problem.what.contains("has a fork"), "{problem}");
}

#[test]
fn a_log_that_was_written_anew_by_somebody_with_all_keys_is_found_by_the_second_place_alone() {
    let world = history(13);
    for path in segments(&world) {
        world.remove_file(path).unwrap();
    }
    for _ in 0..5 {
        let db = encrypted(&world).audit(options(OnFailure::Block)).open(DIR).unwrap();
        db.keyspace("innocent").unwrap();
        db.close().unwrap();
    }
    let report = verify(&world).unwrap();
    is_well(&report);
    assert!(report.shows().contains("written all of it anew"));
    assert_eq!(against(&world).unwrap().problem.unwrap().record, 1);
}

/// A log that begins beyond all that the second place knows says nothing of what was there, whatever record excuses it.
#[test]
fn a_log_that_was_written_anew_and_shortened_is_found_by_the_second_place_as_well() {
    let world = history(13);
    for path in segments(&world) {
        world.remove_file(path).unwrap();
    }
    let forged = AuditOptions {
        keep: AuditKeep::Bytes(1),
        segment_bytes: 4 << 10,
        checkpoint_records: 32,
        ..options(OnFailure::Block)
    };
    let db = encrypted(&world).audit(forged).open(DIR).unwrap();
    for _ in 0..100 {
        db.keyspace("innocent").unwrap();
        db.drop_keyspace("innocent").unwrap();
        world.run_until_idle();
    }
    db.close().unwrap();
    let report = verify(&world).unwrap();
    is_well(&report);
    assert!(report.first > 30, "{report:?}");
    let problem = against(&world).unwrap().problem.unwrap();
    assert!(problem.what.contains("everything that the second place knows of was removed"), "{problem}");
}

/// Who may only append there cannot take away what stands there.
#[test]
fn what_is_put_behind_a_checkpoint_does_not_make_it_less() {
    let world = history(17);
    let mut copy = world.read_file(COPY).unwrap();
    copy.extend_from_slice(b"x\n");
    world.write_file(COPY, &copy).unwrap();
    let report = against(&world).unwrap();
    is_well(&report);
    assert_eq!(report.against.unwrap().torn, 1);
    world.remove_file(segments(&world).last().unwrap()).unwrap();
    assert!(against(&world).unwrap().problem.is_some());
}

#[test]
fn checkpoints_of_another_key_or_database_are_not_believed() {
    let (world, other) = (history(14), history(15));
    let forged = log(&world).verify(Some(&known(&other))).unwrap();
    assert!(forged.problem.unwrap().what.contains("of another database"));
    // In his own name somebody may say what he likes.
    let text = known(&world);
    let (statement, _) = text.split_once("signature ").unwrap();
    let unsigned = format!("{}signature none\n", statement.replace(&hex_signer(&text), "none"));
    assert!(Checkpoint::parse(&unsigned).is_ok());
    let forged = log(&world).verify(Some(&unsigned)).unwrap();
    assert!(forged.problem.unwrap().what.contains("signed by another key, or by none"));
    // A byte of one that is whole.
    let at = text.find("root ").unwrap() + 5;
    let digit = if text.as_bytes()[at] == b'0' { "1" } else { "0" };
    let changed = format!("{}{digit}{}", &text[..at], &text[at + 1..]);
    assert!(log(&world).verify(Some(&changed)).unwrap().problem.is_some());
}

fn hex_signer(text: &str) -> String {
    text.lines().find_map(|line| line.strip_prefix("signer ")).unwrap().to_owned()
}

#[test]
fn a_checkpoint_that_a_crash_has_torn_is_passed_over() {
    let world = history(16);
    let text = known(&world);
    let size = text.len();
    for cut in [1, 20, 200] {
        world.write_file(COPY, &text.as_bytes()[..size - cut]).unwrap();
        let report = against(&world).unwrap();
        is_well(&report);
        assert_eq!(report.against.unwrap().torn, 1);
    }
    // What comes behind it counts.
    open(&world).unwrap().close().unwrap();
    let report = against(&world).unwrap();
    is_well(&report);
    let against = report.against.unwrap();
    assert_eq!((against.torn, against.through), (1, report.last));
}

#[test]
fn a_plain_segment_among_sealed_ones_is_noticed() {
    let (world, other) = (history(17), World::new(18));
    super::plain(&other).audit(options(OnFailure::Block)).open(DIR).unwrap().close().unwrap();
    let plain = other.read_file(&segments(&other)[0]).unwrap();
    world.write_file(&segments(&world)[1], &plain).unwrap();
    assert!(verify(&world).unwrap().problem.is_some());
    world.write_file(&segments(&world)[0], &plain).unwrap();
    assert!(verify(&world).unwrap().problem.is_some());
}

#[test]
fn without_the_root_key_nothing_is_read() {
    let world = history(19);
    let error = super::plain(&world).audit_log(DIR).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    // No name of an actor lies there.
    for path in segments(&world) {
        let bytes = world.read_file(path).unwrap();
        assert!(!bytes.windows(7).any(|window| window == b"program"));
    }
}

/// Two copies went on by themselves with the same keys: a segment of one fits into the other by its number, its records and its seals.
#[test]
fn a_segment_of_another_history_is_noticed_where_the_next_one_begins() {
    let world = World::new(20);
    open(&world).unwrap().close().unwrap();
    let before = copy_of(&world, DIR);
    let mut histories = Vec::new();
    for name in ["one", "other"] {
        put_back(&world, DIR, &before);
        for life in 0..2 {
            let db = encrypted(&world).audit(options(OnFailure::Block)).open(DIR).unwrap();
            db.keyspace(&format!("{name}-{life}")).unwrap();
            db.close().unwrap();
        }
        is_well(&verify(&world).unwrap());
        histories.push(copy_of(&world, FOLDER));
    }
    put_back(&world, FOLDER, &histories[0]);
    world.write_file(&histories[1][1].0, &histories[1][1].1).unwrap();
    assert_eq!(is_noticed(&world, 3), 7);
}

/// Of what lies before something that was synced later no crash has torn anything, also in the last segment.
#[test]
fn damage_before_what_was_durable_is_no_torn_end() {
    let world = history(22);
    let path = segments(&world).pop().unwrap();
    let at = frames(&world.read_file(&path).unwrap())[2].start as u64;
    world.flip_bit(&path, at + 40, 3).unwrap();
    assert_eq!(is_noticed(&world, 3), 19);
    // The header of the frame as well: those behind it speak.
    world.flip_bit(&path, at + 2, 3).unwrap();
    assert_eq!(is_noticed(&world, 3), 19);
    // Who opens it says so, and leaves it as it is.
    let before = world.read_file(&path).unwrap();
    super::open_with(&world, options(OnFailure::Continue)).unwrap().close().unwrap();
    assert!(world.read_file(&path).unwrap() == before && verify(&world).unwrap().problem.is_some());
}

/// Records that the next segment does not have: they were put there.
#[test]
fn records_beyond_the_beginning_of_the_next_segment_have_to_be_the_same_there() {
    let world = World::new(23);
    let builder = || super::plain(&world).audit(options(OnFailure::Block));
    for _ in 0..2 {
        builder().open(DIR).unwrap().close().unwrap();
    }
    let verify = || builder().audit_log(DIR).unwrap().verify(None).unwrap();
    let mut third = Vec::new();
    rewrite_plain(&world, 1, |contents| third.clone_from(&contents[1]));
    rewrite_plain(&world, 0, |contents| contents.push(third.clone()));
    is_well(&verify());
    *third.last_mut().unwrap() ^= 1;
    rewrite_plain(&world, 0, |contents| *contents.last_mut().unwrap() = third.clone());
    let problem = verify().problem.unwrap();
    assert!(problem.record == 3 && problem.what.contains("fork"), "{problem}");
    // One that the next segment has nothing of.
    rewrite_plain(&world, 1, |contents| contents.truncate(1));
    assert!(verify().problem.unwrap().what.contains("fork"));
}

/// Writes a segment of a log that is not sealed anew, as everybody can: its frames with other contents.
fn rewrite_plain(world: &World, segment: usize, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let path = &segments(world)[segment];
    let file = world.env().fs.open(path, Access::Read).unwrap();
    let opened = FileHeader::read_any(&*file, &Plain).unwrap();
    let (id, length) = (opened.header.context.file, file.length().unwrap());
    let begin = first_offset(opened.bytes);
    let mut frames = FrameReader::new(file, id, Arc::new(Plain), length).unwrap();
    let (mut at, mut contents) = (begin, Vec::new());
    while let Step::Frame(frame) = frames.step(at).unwrap() {
        at = frame.next;
        contents.push(frame.head);
    }
    change(&mut contents);
    let mut bytes = world.read_file(path).unwrap();
    bytes.truncate(usize::try_from(begin).unwrap());
    let mut encoder = FrameEncoder::new(id, Arc::new(Plain));
    for content in &contents {
        let frame = encoder.encode(bytes.len() as u64, 0, content, &[]).unwrap().to_vec();
        bytes.extend_from_slice(&frame);
    }
    world.write_file(path, &bytes).unwrap();
}

/// Without a key nothing keeps somebody from making checksums and links anew: the chain holds up who is careless, the second place shows the rest.
#[test]
fn what_is_changed_in_a_log_that_is_not_sealed_is_noticed_if_the_rest_is_not_made_anew() {
    let world = World::new(21);
    world.env().fs.create_dir_all("elsewhere".as_ref()).unwrap();
    let builder = || super::plain(&world).audit(options(OnFailure::Block)).audit_copy(COPY);
    let db = builder().open(DIR).unwrap();
    db.keyspace("users").unwrap();
    db.close().unwrap();
    let files = copy_of(&world, FOLDER);
    let verify = || builder().audit_log(DIR).unwrap().verify(None).unwrap();
    rewrite_plain(&world, 0, |_| {});
    is_well(&verify());
    // Its start, the open, two about the keyspace, the close, a checkpoint.
    rewrite_plain(&world, 0, |contents| drop(contents.remove(2)));
    assert_eq!(verify().problem.unwrap().record, 2);
    put_back(&world, FOLDER, &files);
    rewrite_plain(&world, 0, |contents| {
        let action = contents[3].iter_mut().find(|byte| **byte == Action::KeyspaceCreate.number()).unwrap();
        *action = Action::KeyspaceDrop.number();
    });
    let problem = verify().problem.unwrap();
    assert!(problem.record == 1 && problem.what.contains("not those that it is about"), "{problem}");
    // Who takes the checkpoint away as well.
    rewrite_plain(&world, 0, |contents| contents.truncate(5));
    is_well(&verify());
    assert!(builder().audit_log(DIR).unwrap().verify(Some(&known(&world))).unwrap().problem.is_some());
    // And who writes numbers at which an end cannot be reached.
    rewrite_plain(&world, 0, |contents| {
        contents[0] = [&[1][..], &[0xff; 9], &[1, 0], &[0; 64 * 32]].concat();
    });
    assert!(verify().problem.is_some());
    builder().audit_log(DIR).unwrap().records(&mut |_| Ok(true)).unwrap_err();
}

/// Each release has more actions. Who does not know one goes on behind its record, for before it would be a fork that nobody ever mends.
#[test]
fn what_a_newer_version_has_recorded_is_gone_on_with() {
    let world = World::new(22);
    let db = open(&world).unwrap();
    let newer = Action::from_number(30);
    db.audit().unwrap().record(&Actor::new("ada", "a later release"), Event::done(newer)).unwrap();
    db.close().unwrap();
    let db = open(&world).unwrap();
    db.keyspace("users").unwrap();
    db.close().unwrap();
    is_well(&against(&world).unwrap());
    let records = records(&world);
    assert!(records.iter().all(|record| record.event.action != Action::Damage));
    let known: Vec<_> = records.iter().filter(|record| record.event.action == newer).collect();
    assert_eq!((known.len(), known[0].event.action.to_string()), (1, "action 30".to_owned()));
    let (proof, checkpoint) = log(&world).prove(known[0].number).unwrap();
    pugdb::audit::InclusionProof::parse(&proof.to_string()).unwrap().check(&checkpoint).unwrap();
}

/// What cannot be read at all is no damage, either: nothing is written behind it or before it.
#[test]
fn a_layout_or_a_kind_of_frame_of_a_newer_version_is_left_alone() {
    let world = World::new(23);
    let builder = || super::plain(&world).audit(options(OnFailure::Continue));
    builder().open(DIR).unwrap().close().unwrap();
    let before = copy_of(&world, FOLDER);
    // A beginning, a record, something that is longer than any of ours.
    let changes = [(0, vec![9]), (1, vec![2, 2]), (2, vec![9; 100_000])];
    for (number, (frame, bytes)) in changes.iter().enumerate() {
        put_back(&world, FOLDER, &before);
        rewrite_plain(&world, 0, |contents| {
            let content = &mut contents[*frame];
            content.splice(..content.len().min(bytes.len()), bytes.iter().copied());
        });
        let newer = copy_of(&world, FOLDER);
        let is_newer = |error: pugdb::Error| {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "change {number}: {error}");
            assert!(error.to_string().contains("newer version"), "{error}");
        };
        is_newer(builder().open(DIR).unwrap_err());
        is_newer(builder().audit_log(DIR).unwrap().verify(None).unwrap_err());
        is_newer(builder().audit_log(DIR).unwrap().records(&mut |_| Ok(true)).unwrap_err());
        assert!(copy_of(&world, FOLDER) == newer, "change {number}: something was written");
    }
    put_back(&world, FOLDER, &before);
    builder().open(DIR).unwrap().close().unwrap();
}

/// The same for what is sealed: that it cannot be opened does not mean that somebody has put it there.
#[test]
fn a_segment_under_an_algorithm_of_a_newer_version_is_left_alone() {
    let world = history(24);
    let path = segments(&world).pop().unwrap();
    let mut bytes = world.read_file(&path).unwrap();
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    // Behind the extra part and its length, and the length of the cipher's: layout and algorithm, then the checksum at the end.
    let (length, cipher) = (number(12), 60 + number(52));
    let id = FileId(bytes[32..48].try_into().unwrap());
    assert_eq!((bytes[cipher], bytes[cipher + 1] < 3), (1, true));
    bytes[cipher + 1] = 3;
    let sum = Checksum::of(id).at(0, &bytes[..length - 8]);
    bytes[length - 8..length].copy_from_slice(&sum.to_le_bytes());
    world.write_file(&path, &bytes).unwrap();
    let before = copy_of(&world, FOLDER);
    for error in [open(&world).unwrap_err(), verify(&world).unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
    assert!(copy_of(&world, FOLDER) == before, "something was written");
}
