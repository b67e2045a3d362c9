//! The model is read back commit by commit, as text.

use super::*;

const NOW: Timestamp = Timestamp(100);

fn entry(value: &str) -> ModelEntry {
    ModelEntry { value: value.into(), expires_at: None, meta: 0 }
}

fn put(key: &str, value: &str) -> ModelOp {
    ModelOp::Put { keyspace: "a".into(), key: key.into(), entry: entry(value) }
}

fn delete(key: &str) -> ModelOp {
    ModelOp::Delete { keyspace: "a".into(), key: key.into() }
}

fn create(name: &str) -> ModelOp {
    ModelOp::CreateKeyspace(name.into())
}

/// The values of keyspace "a" after each commit, as text.
fn story(model: &Model) -> Vec<String> {
    let say = |commit| {
        let Some(entries) = model.state(commit, NOW).remove("a") else { return "none".to_owned() };
        let pair = |(key, entry): (Vec<u8>, ModelEntry)| {
            format!("{}={}", String::from_utf8_lossy(&key), String::from_utf8_lossy(&entry.value))
        };
        entries.into_iter().map(pair).collect::<Vec<_>>().join(" ")
    };
    (0..=model.commits()).map(say).collect()
}

#[test]
fn every_commit_stays_readable() {
    let mut model = Model::default();
    model.commit(&[create("a"), put("k", "1"), put("l", "1")]);
    model.commit(&[put("k", "2"), delete("l")]);
    model.commit(&[put("k", "3"), ModelOp::Truncate("a".into()), put("m", "3")]);
    model.commit(&[ModelOp::DropKeyspace("a".into())]);
    model.commit(&[create("a"), create("b")]);
    model.commit(&[put("k", "6"), ModelOp::DropKeyspace("a".into()), create("a"), put("n", "6")]);
    assert_eq!(story(&model), ["none", "k=1 l=1", "k=2", "m=3", "none", "", "n=6"]);
    model.truncate_to(3);
    assert_eq!(story(&model), ["none", "k=1 l=1", "k=2", "m=3"]);
    assert_eq!(model.commit(&[put("k", "4")]), 4);
    assert_eq!(story(&model)[4], "k=4 m=3");
    model.forget_volatile("a");
    assert_eq!(story(&model)[1..], ["", "", "", ""]);
}

#[test]
fn a_range_delete_takes_the_keys_of_its_range_and_what_comes_behind_stays() {
    let mut model = Model::default();
    let range = KeyRange { start: Bound::Excluded(b"k".to_vec()), end: Bound::Included(b"m".to_vec()) };
    let delete_range = ModelOp::DeleteRange { keyspace: "a".into(), range };
    model.commit(&[create("a"), put("k", "1"), put("l", "1"), put("m", "1"), put("n", "1")]);
    model.commit(&[put("l", "2"), delete_range.clone(), put("m", "2")]);
    model.commit(&[delete_range]);
    assert_eq!(story(&model), ["none", "k=1 l=1 m=1 n=1", "k=1 m=2 n=1", "k=1 n=1"]);
}

#[test]
fn an_expired_entry_hides_what_is_beneath() {
    let mut model = Model::default();
    let brief = ModelEntry { expires_at: Some(Timestamp(100)), ..entry("2") };
    model.commit(&[create("a"), put("k", "1")]);
    model.commit(&[ModelOp::Put { keyspace: "a".into(), key: b"k".to_vec(), entry: brief.clone() }]);
    assert_eq!(model.get(2, Timestamp(99), "a", b"k"), Some(&brief));
    assert_eq!(model.get(2, Timestamp(100), "a", b"k"), None);
    assert_eq!(model.get(1, Timestamp(100), "a", b"k"), Some(&entry("1")));
}

#[test]
fn scans_run_both_ways_within_bounds_and_limit() {
    let mut model = Model::default();
    model.commit(&[create("a"), put("a", "1"), put("b", "2"), put("c", "3"), put("d", "4"), delete("c")]);
    let range = KeyRange { start: Bound::Excluded(b"a".to_vec()), end: Bound::Unbounded };
    let keys = |direction, limit| {
        let found = model.scan((1, NOW), "a", &range, direction, limit);
        found.into_iter().map(|(key, _)| key[0]).collect::<Vec<_>>()
    };
    assert_eq!(keys(Direction::Forward, 9), b"bd");
    assert_eq!(keys(Direction::Reverse, 9), b"db");
    assert_eq!(keys(Direction::Reverse, 1), b"d");
    assert!(model.scan((1, NOW), "none", &range, Direction::Forward, 9).is_empty());
}

#[test]
fn a_recovered_state_is_found_among_the_prefixes() {
    let mut model = Model::default();
    model.commit(&[create("a")]);
    (2..6).for_each(|number| _ = model.commit(&[put("k", &number.to_string())]));
    model.commit(&[create("b")]);
    let state = model.state(4, NOW);
    assert_eq!(model.matching_prefix(&state, 1, 6, NOW), Some(4));
    assert_eq!(model.matching_prefix(&state, 5, 9, NOW), None);
    assert_eq!(model.matching_prefix(&model.state(6, NOW), 0, 9, NOW), Some(6));
    let mut wrong = state;
    wrong.get_mut("a").unwrap().insert(b"x".to_vec(), entry("x"));
    assert_eq!(model.matching_prefix(&wrong, 0, 6, NOW), None);
}

#[test]
fn a_difference_is_put_into_words() {
    let mut model = Model::default();
    model.commit(&[create("a"), put("k", "1"), put("l", "1")]);
    model.commit(&[put("k", "2"), delete("l"), create("b")]);
    let (left, right) = (model.state(1, NOW), model.state(2, NOW));
    assert_eq!(diff(&left, &left), "");
    assert_eq!(
        diff(&left, &right),
        "keyspace \"a\" key 0x6b: left 1 bytes 0x31, right 1 bytes 0x32\n\
         keyspace \"a\" key 0x6c: left 1 bytes 0x31, right absent\n\
         keyspace \"b\" (0 entries) is only right"
    );
}
