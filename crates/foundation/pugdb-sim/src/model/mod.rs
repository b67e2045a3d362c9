//! The oracle: a sorted map that keeps all of its history, too simple to be wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::ops::{Bound, RangeBounds};

use pugdb_core::engine::{Direction, KeyRange};
use pugdb_core::{Entry, EntryKind, Timestamp};

#[cfg(test)]
mod tests;

/// A live entry.
#[derive(Clone, PartialEq, Eq)]
pub struct ModelEntry {
    /// The value.
    pub value: Vec<u8>,
    /// When it stops to exist.
    pub expires_at: Option<Timestamp>,
    /// The user's byte.
    pub meta: u8,
}

/// Prints the beginning of the value: what the model holds was made up by a test.
impl std::fmt::Debug for ModelEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = &self.value[..self.value.len().min(24)];
        let more = if shown.len() < self.value.len() { "…" } else { "" };
        write!(f, "{} bytes {}{more}", self.value.len(), hex(shown))?;
        if let Some(Timestamp(at)) = self.expires_at {
            write!(f, ", expires at {at}")?;
        }
        if self.meta != 0 {
            write!(f, ", meta {}", self.meta)?;
        }
        Ok(())
    }
}

impl ModelEntry {
    /// What the model keeps of an entry; `None` for a delete.
    pub fn of(entry: &Entry) -> Option<Self> {
        (entry.kind == EntryKind::Put).then(|| Self {
            value: entry.value.to_vec(),
            expires_at: entry.expires_at,
            meta: entry.meta,
        })
    }
}

/// One operation of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelOp {
    /// A keyspace comes to be; nothing happens when it exists.
    CreateKeyspace(String),
    /// A keyspace goes with all it holds; nothing happens when it does not exist.
    DropKeyspace(String),
    /// A keyspace loses all it holds.
    Truncate(String),
    /// Two keyspaces, which must exist, exchange their names.
    Swap(String, String),
    /// A key gets a value.
    Put {
        /// The keyspace, which must exist.
        keyspace: String,
        /// The key.
        key: Vec<u8>,
        /// What is written.
        entry: ModelEntry,
    },
    /// Something is put behind a key's value, as [`Concatenate`](crate::Concatenate) does.
    Merge {
        /// The keyspace, which must exist.
        keyspace: String,
        /// The key.
        key: Vec<u8>,
        /// What is put behind it.
        operand: Vec<u8>,
    },
    /// A key loses its value.
    Delete {
        /// The keyspace, which must exist.
        keyspace: String,
        /// The key.
        key: Vec<u8>,
    },
    /// All keys of a range lose their values.
    DeleteRange {
        /// The keyspace, which must exist.
        keyspace: String,
        /// The keys.
        range: KeyRange,
    },
}

/// What a reader can see: by keyspace, then by key. A keyspace without entries is in it too.
pub type ModelState = BTreeMap<String, BTreeMap<Vec<u8>, ModelEntry>>;

/// Keyspaces with the history of all commits. Commits are numbered from 1; 0 is the empty beginning.
///
/// ```
/// use pugdb_core::Timestamp;
/// use pugdb_sim::{Model, ModelEntry, ModelOp};
///
/// let mut model = Model::default();
/// let entry = ModelEntry { value: b"1815".to_vec(), expires_at: None, meta: 0 };
/// model.commit(&[
///     ModelOp::CreateKeyspace("users".into()),
///     ModelOp::Put { keyspace: "users".into(), key: b"ada".to_vec(), entry: entry.clone() },
/// ]);
/// model.commit(&[ModelOp::Truncate("users".into())]);
/// assert_eq!(model.get(1, Timestamp(0), "users", b"ada"), Some(&entry));
/// assert_eq!(model.get(2, Timestamp(0), "users", b"ada"), None);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Model {
    commits: usize,
    keyspaces: BTreeMap<String, Vec<Incarnation>>,
}

/// One life of a keyspace's name.
#[derive(Clone, Debug)]
struct Incarnation {
    created: usize,
    dropped: Option<usize>,
    /// What a key was after each commit that said something about it, in order.
    entries: BTreeMap<Vec<u8>, Vec<Version>>,
}

/// What a key was after a commit.
#[derive(Clone, Debug)]
struct Version {
    commit: usize,
    /// `None` says it is gone.
    entry: Option<ModelEntry>,
    /// What it is when that has expired: what was merged since counts from nothing.
    later: Option<ModelEntry>,
}

impl Version {
    fn of(commit: usize, entry: Option<ModelEntry>) -> Self {
        Self { commit, entry, later: None }
    }

    fn merged(&self, commit: usize, operand: &[u8]) -> Self {
        let behind = |before: &Option<ModelEntry>| {
            let nothing = ModelEntry { value: Vec::new(), expires_at: None, meta: 0 };
            let mut entry = before.clone().unwrap_or(nothing);
            entry.value.extend_from_slice(operand);
            Some(entry)
        };
        Self { commit, entry: behind(&self.entry), later: behind(&self.later) }
    }

    fn seen(&self, now: Timestamp) -> Option<&ModelEntry> {
        let entry = self.entry.as_ref()?;
        if entry.expires_at.is_none_or(|at| now < at) { Some(entry) } else { self.later.as_ref() }
    }
}

impl Incarnation {
    /// What the keys are that are not deleted, expired ones too.
    fn newest_entries(&self) -> Vec<(Vec<u8>, Version)> {
        let newest = |(key, versions): (&Vec<u8>, &Vec<Version>)| {
            let newest = versions.last().filter(|newest| newest.entry.is_some())?;
            Some((key.clone(), newest.clone()))
        };
        self.entries.iter().filter_map(newest).collect()
    }

    fn get(&self, commit: usize, now: Timestamp, key: &[u8]) -> Option<&ModelEntry> {
        visible(self.entries.get(key)?, commit, now)
    }

    fn live(&self, commit: usize, now: Timestamp) -> impl DoubleEndedIterator<Item = (&[u8], &ModelEntry)> {
        self.entries.iter().filter_map(move |(key, versions)| {
            let entry = visible(versions, commit, now)?;
            Some((key.as_slice(), entry))
        })
    }
}

fn ends(range: &KeyRange) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (range.start.as_ref().map(Vec::as_slice), range.end.as_ref().map(Vec::as_slice))
}

fn visible(versions: &[Version], commit: usize, now: Timestamp) -> Option<&ModelEntry> {
    versions.iter().rfind(|version| version.commit <= commit)?.seen(now)
}

impl Model {
    /// How many commits there are, which is also the number of the last one.
    pub fn commits(&self) -> usize {
        self.commits
    }

    /// Adds a commit and returns its number.
    pub fn commit(&mut self, ops: &[ModelOp]) -> usize {
        self.commits += 1;
        for op in ops {
            self.apply(op);
        }
        self.commits
    }

    fn apply(&mut self, op: &ModelOp) {
        let commit = self.commits;
        match op {
            ModelOp::CreateKeyspace(name) => {
                if self.live(commit, name).is_none() {
                    let fresh = Incarnation { created: commit, dropped: None, entries: BTreeMap::new() };
                    self.keyspaces.entry(name.clone()).or_default().push(fresh);
                }
            }
            ModelOp::DropKeyspace(name) => {
                if self.live(commit, name).is_some() {
                    self.newest(name).dropped = Some(commit);
                }
            }
            // Said of every key one by one, so nothing else needs to know about truncation.
            ModelOp::Truncate(name) => {
                self.newest(name)
                    .entries
                    .values_mut()
                    .for_each(|versions| versions.push(Version::of(commit, None)));
            }
            // Likewise: each name now leads to what the other one led to.
            ModelOp::Swap(one, other) => {
                let held = [other, one].map(|name| self.newest(name).newest_entries());
                for (name, entries) in [one, other].into_iter().zip(held) {
                    let all = &mut self.newest(name).entries;
                    for versions in all.values_mut() {
                        versions.push(Version::of(commit, None));
                    }
                    for (key, newest) in entries {
                        all.entry(key).or_default().push(Version { commit, ..newest });
                    }
                }
            }
            ModelOp::Put { keyspace, key, entry } => {
                let versions = self.newest(keyspace).entries.entry(key.clone()).or_default();
                versions.push(Version::of(commit, Some(entry.clone())));
            }
            ModelOp::Merge { keyspace, key, operand } => {
                let versions = self.newest(keyspace).entries.entry(key.clone()).or_default();
                let nothing = Version::of(commit, None);
                let merged = versions.last().unwrap_or(&nothing).merged(commit, operand);
                versions.push(merged);
            }
            ModelOp::Delete { keyspace, key } => {
                let versions = self.newest(keyspace).entries.entry(key.clone()).or_default();
                versions.push(Version::of(commit, None));
            }
            // Said of every key one by one, too.
            ModelOp::DeleteRange { keyspace, range } => {
                let inside = ends(range);
                let entries = self.newest(keyspace).entries.iter_mut();
                let deleted =
                    entries.filter(|(key, _)| RangeBounds::<[u8]>::contains(&inside, key.as_slice()));
                deleted.for_each(|(_, versions)| versions.push(Version::of(commit, None)));
            }
        }
    }

    /// The keyspace that a commit under way changes.
    fn newest(&mut self, name: &str) -> &mut Incarnation {
        let newest = self.keyspaces.get_mut(name).and_then(|incarnations| incarnations.last_mut());
        let newest = newest.filter(|incarnation| incarnation.dropped.is_none());
        newest.expect("a test changes keyspaces that exist: it created them in the model first")
    }

    fn live(&self, commit: usize, name: &str) -> Option<&Incarnation> {
        let newest = self.keyspaces.get(name)?.iter().rfind(|incarnation| incarnation.created <= commit)?;
        newest.dropped.is_none_or(|dropped| commit < dropped).then_some(newest)
    }

    /// The entry of `key` after `commit`, for a reader at `now`.
    pub fn get(&self, commit: usize, now: Timestamp, keyspace: &str, key: &[u8]) -> Option<&ModelEntry> {
        self.live(commit, keyspace)?.get(commit, now, key)
    }

    /// The first `limit` entries of `range` after `commit`, for a reader at `now`.
    pub fn scan(
        &self,
        (commit, now): (usize, Timestamp),
        keyspace: &str,
        range: &KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Vec<(&[u8], &ModelEntry)> {
        let Some(incarnation) = self.live(commit, keyspace) else { return Vec::new() };
        // By the standard library's idea of a range, so that the one of the engines is tested too.
        let range = ends(range);
        let inside = |(key, _): &(&[u8], &ModelEntry)| RangeBounds::<[u8]>::contains(&range, *key);
        let entries = incarnation.live(commit, now).filter(inside);
        match direction {
            Direction::Forward => entries.take(limit).collect(),
            Direction::Reverse => entries.rev().take(limit).collect(),
        }
    }

    /// All that a reader at `now` sees after `commit`.
    pub fn state(&self, commit: usize, now: Timestamp) -> ModelState {
        let mut state = ModelState::new();
        for name in self.keyspaces.keys() {
            if let Some(incarnation) = self.live(commit, name) {
                let entries = incarnation.live(commit, now).map(|(key, entry)| (key.to_vec(), entry.clone()));
                state.insert(name.clone(), entries.collect());
            }
        }
        state
    }

    /// The largest commit in `from..=to` after which a reader at `now` sees exactly `state`.
    ///
    /// After a crash, what was recovered must be such a prefix, `from` being the last acknowledged commit.
    pub fn matching_prefix(
        &self,
        state: &ModelState,
        from: usize,
        to: usize,
        now: Timestamp,
    ) -> Option<usize> {
        (from..=to.min(self.commits)).rev().find(|&commit| self.is_state(state, commit, now))
    }

    fn is_state(&self, state: &ModelState, commit: usize, now: Timestamp) -> bool {
        let live = self.keyspaces.keys().filter_map(|name| Some((name, self.live(commit, name)?)));
        live.clone().map(|(name, _)| name).eq(state.keys())
            && live.zip(state.values()).all(|((_, incarnation), entries)| {
                let entries = entries.iter().map(|(key, entry)| (key.as_slice(), entry));
                incarnation.live(commit, now).eq(entries)
            })
    }

    /// Forgets the commits after `commit`, which a crash took.
    pub fn truncate_to(&mut self, commit: usize) {
        self.commits = self.commits.min(commit);
        for incarnations in self.keyspaces.values_mut() {
            incarnations.retain(|incarnation| incarnation.created <= commit);
            for incarnation in incarnations {
                incarnation.dropped = incarnation.dropped.filter(|&dropped| dropped <= commit);
                for versions in incarnation.entries.values_mut() {
                    versions.retain(|version| version.commit <= commit);
                }
            }
        }
    }

    /// Forgets all entries of a keyspace, present and past, which lived in memory only. The keyspace stays.
    pub fn forget_volatile(&mut self, keyspace: &str) {
        for incarnation in self.keyspaces.get_mut(keyspace).into_iter().flatten() {
            incarnation.entries.clear();
        }
    }
}

/// How many differences [`diff`] spells out.
const DIFFERENCES_MAX: usize = 8;

/// Says in words where two states differ; empty when they do not.
pub fn diff(left: &ModelState, right: &ModelState) -> String {
    let mut lines = Vec::new();
    for name in union(left, right) {
        match (left.get(name), right.get(name)) {
            (Some(left), Some(right)) => diff_entries(name, left, right, &mut lines),
            (Some(entries), None) => {
                lines.push(format!("keyspace {name:?} ({} entries) is only left", entries.len()));
            }
            (None, entries) => lines.push(format!(
                "keyspace {name:?} ({} entries) is only right",
                entries.map_or(0, BTreeMap::len)
            )),
        }
    }
    let left_out = lines.len().saturating_sub(DIFFERENCES_MAX);
    lines.truncate(DIFFERENCES_MAX);
    if left_out > 0 {
        lines.push(format!("and {left_out} more"));
    }
    lines.join("\n")
}

fn diff_entries(
    name: &str,
    left: &BTreeMap<Vec<u8>, ModelEntry>,
    right: &BTreeMap<Vec<u8>, ModelEntry>,
    lines: &mut Vec<String>,
) {
    let say = |entry: Option<&ModelEntry>| entry.map_or("absent".into(), |entry| format!("{entry:?}"));
    for key in union(left, right) {
        let (left, right) = (left.get(key), right.get(key));
        if left != right {
            lines.push(format!(
                "keyspace {name:?} key {}: left {}, right {}",
                hex(key),
                say(left),
                say(right)
            ));
        }
    }
}

fn union<'a, K: Ord, V>(left: &'a BTreeMap<K, V>, right: &'a BTreeMap<K, V>) -> BTreeSet<&'a K> {
    left.keys().chain(right.keys()).collect()
}

/// Digits for people; long strings are cut.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut out = String::from("0x");
    for byte in &bytes[..bytes.len().min(32)] {
        let _ = write!(out, "{byte:02x}");
    }
    if bytes.len() > 32 {
        let _ = write!(out, "… ({} bytes)", bytes.len());
    }
    out
}
