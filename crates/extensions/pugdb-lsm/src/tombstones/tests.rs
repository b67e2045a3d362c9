//! Sets of range tombstones against a list of them.

use pugdb_core::engine::KeyRange;

use super::*;

fn tombstone(start: &str, end: &str, seqno: u64) -> RangeTombstone {
    let range = if end.is_empty() { KeyRange::from(start..) } else { KeyRange::from(start..end) };
    RangeTombstone { span: KeySpan::of(&range).unwrap(), seqno: Seqno(seqno) }
}

fn points(points: &[u64]) -> Vec<Seqno> {
    points.iter().copied().map(Seqno).collect()
}

/// As text: from, to, seqnos.
fn say(tombstones: &Tombstones) -> String {
    let text = |key: &Key| String::from_utf8_lossy(key).into_owned();
    let say = |fragment: &Fragment| {
        let end = fragment.span.end.as_ref().map_or(String::new(), text);
        let seqnos: Vec<String> = fragment.seqnos.iter().map(ToString::to_string).collect();
        format!("{}..{end} {}", text(&fragment.span.start), seqnos.join(","))
    };
    let level = |level: &Arc<[Fragment]>| level.iter().map(say).collect::<Vec<_>>().join("  ");
    tombstones.levels.iter().map(level).collect::<Vec<_>>().join(" | ")
}

fn cut(tombstones: &[RangeTombstone], at: &[u64]) -> String {
    say(&Tombstones::of(tombstones.iter().cloned(), &points(at)))
}

#[test]
fn tombstones_are_cut_at_each_others_ends() {
    let two = [tombstone("a", "e", 5), tombstone("c", "g", 9)];
    assert_eq!(cut(&two, &[6, 20]), "a..c 5  c..e 9,5  e..g 9");
    assert_eq!(cut(&two, &[20]), "a..c 5  c..g 9");
    assert_eq!(cut(&[tombstone("a", "", 5), tombstone("c", "e", 9)], &[20]), "a..c 5  c..e 9  e.. 5");
    assert_eq!(cut(&[tombstone("", "", 5), tombstone("c", "", 3)], &[3, 20]), "..c 5  c.. 5,3");
}

#[test]
fn neighbours_alike_are_one() {
    assert_eq!(cut(&[tombstone("a", "c", 5), tombstone("c", "e", 5)], &[20]), "a..e 5");
    assert_eq!(cut(&[tombstone("a", "c", 5), tombstone("c", "e", 6)], &[20]), "a..c 5  c..e 6");
    assert_eq!(cut(&[tombstone("a", "c", 5), tombstone("d", "e", 5)], &[20]), "a..c 5  d..e 5");
    assert_eq!(cut(&[], &[20]), "");
}

#[test]
fn only_those_that_a_reader_can_tell_apart_are_kept() {
    let four: Vec<_> = (1..=4).map(|number| tombstone("a", "b", number * 10)).collect();
    assert_eq!(cut(&four, &[50]), "a..b 40");
    assert_eq!(cut(&four, &[10, 50]), "a..b 40,10");
    assert_eq!(cut(&four, &[9, 25, 50]), "a..b 40,20");
    // Those behind all read points are of one commit: nobody ever reads between them.
    assert_eq!(cut(&four, &[25]), "a..b 40,20");
    assert_eq!(cut(&four, &[]), "a..b 40");
}

#[test]
fn a_queue_that_deletes_from_the_front_keeps_few_tombstones() {
    let mut tombstones = Tombstones::default();
    for number in 1..=300 {
        let next = tombstone("", &format!("{number:04}"), number);
        tombstones = tombstones.with([next].into_iter(), &points(&[number - 1]));
        // Who looks at what is visible now does not see the newest one yet.
        assert!(tombstones.count() <= 4, "{}", say(&tombstones));
    }
}

#[test]
fn ranges_within_ranges_take_no_more_than_their_number() {
    let nested = || (0..300).map(|number| tombstone(&format!("{number:04}"), "z", number + 1));
    assert_eq!(Tombstones::of(nested(), &points(&[500])).count(), 300);
    // In one commit, and one after the other under a snapshot.
    assert_eq!(Tombstones::default().with(nested(), &points(&[0])).count(), 300);
    let mut tombstones = Tombstones::default();
    for (number, next) in nested().enumerate() {
        tombstones = tombstones.with([next].into_iter(), &points(&[100, number as u64]));
    }
    assert!(tombstones.count() <= 600, "{}", tombstones.count());
    assert!(tombstones.levels.len() < 12);
}

/// What the list says.
fn floor(all: &[RangeTombstone], key: &[u8], at: Seqno) -> Seqno {
    let over = all.iter().filter(|one| one.seqno <= at && one.span.raw().contains(key));
    over.map(|one| one.seqno).max().unwrap_or_default()
}

#[test]
fn floors_and_stretches_are_those_of_a_list() {
    let mut rng = fastrand::Rng::with_seed(1);
    let key = |number: u64| Key::copy(&[u8::try_from(number).unwrap()]).unwrap();
    for round in 0..40 {
        let (mut all, mut live, mut tombstones) = (Vec::new(), Vec::new(), Tombstones::default());
        let mut seqno = 0;
        for _ in 0..rng.u64(1..40) {
            let mut more = Vec::new();
            for _ in 0..rng.u64(1..4) {
                seqno += rng.u64(1..4);
                let (start, end) = (rng.u64(..30), rng.u64(..31));
                let end = (end < 30).then(|| key(end));
                if end.as_ref().is_none_or(|end| *end > key(start)) {
                    let span = KeySpan { start: key(start), end };
                    more.push(RangeTombstone { span, seqno: Seqno(seqno) });
                }
            }
            // A snapshot that is dropped is no read point any more, and none comes to be in the past.
            live.retain(|_| rng.u8(..4) > 0);
            let visible = all.last().map_or(0, |last: &RangeTombstone| last.seqno.0);
            let at: Vec<Seqno> = live.iter().copied().chain([Seqno(visible)]).collect();
            all.extend(more.iter().cloned());
            tombstones = if rng.u8(..10) == 0 {
                let old = tombstones.iter().collect::<Vec<_>>();
                Tombstones::of(old.into_iter().chain(more), &at)
            } else {
                // A replay brings some again.
                more.extend(all.iter().rev().take(rng.usize(..3)).cloned());
                tombstones.with(more.into_iter(), &at)
            };
            let now = all.last().map_or(0, |last| last.seqno.0);
            if rng.bool() && live.last().is_none_or(|last| last.0 < now) {
                live.push(Seqno(now));
            }
            let lengths: Vec<usize> = tombstones.levels.iter().map(|level| level.len()).collect();
            assert!(lengths.windows(2).all(|pair| pair[1] * 2 < pair[0]), "{lengths:?}");
            for point in live.iter().copied().chain([Seqno(now)]) {
                check(&tombstones, &all, point, &format!("round {round} at {point}"));
            }
        }
    }
}

fn check(tombstones: &Tombstones, all: &[RangeTombstone], at: Seqno, what: &str) {
    let keys: Vec<Key> = (0..=31).map(|number| Key::copy(&[number]).unwrap()).collect();
    for key in &keys {
        let expected = floor(all, key, at);
        assert_eq!(tombstones.floor(key, at), expected, "{what}");
        let stretch = tombstones.stretch(key, at);
        assert!(stretch.contains(key) && stretch.floor == expected, "{what}: {stretch:?}");
        for other in keys.iter().filter(|other| stretch.contains(other)) {
            assert_eq!(floor(all, other, at), expected, "{what}: {stretch:?}");
        }
        for newest in [1, expected.0, expected.0 + 1, at.0].map(Seqno) {
            covers(tombstones, all, (key, newest, at), &stretch, what);
        }
    }
}

/// Where a reader finds something again, both ways, and what is covered from a key to another.
fn covers(
    tombstones: &Tombstones,
    all: &[RangeTombstone],
    (key, newest, at): (&Key, Seqno, Seqno),
    stretch: &Stretch,
    what: &str,
) {
    let hides = |number: u8| floor(all, &[number], at) >= newest;
    let number = key[0];
    let ahead = tombstones.end_of_cover(stretch, Direction::Forward, newest, at);
    let back = tombstones.end_of_cover(stretch, Direction::Reverse, newest, at);
    for other in (0..=32_u8).step_by(3) {
        let passed_ahead = other > number && ahead.as_ref().is_none_or(|ahead| other < ahead[0]);
        let passed_back = other < number && back.as_ref().is_none_or(|back| other >= back[0]);
        let is_near = stretch.contains(&[other]);
        assert!(is_near || !(passed_ahead || passed_back) || hides(other), "{what}: {other} from {number}");
        let last = Key::copy(&[other]).unwrap();
        if other >= number {
            let all_hidden = (number..=other).all(hides);
            let is_covered = tombstones.cover(key, &last, newest, at);
            assert_eq!(is_covered, all_hidden && !tombstones.is_empty(), "{what}: {number}..={other}");
        }
    }
    // What is ahead is worth looking at.
    assert!(ahead.is_none_or(|ahead| tombstones.floor(&ahead, at) < newest), "{what}");
}
