//! One directory: the names a program sees, the names that are durable, and the changes between them.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::content::Moment;
use super::fate::NameFate;

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Directory(u64),
    File(u64),
}

pub(super) type Names = BTreeMap<String, Node>;

#[derive(Clone)]
pub(super) enum Change {
    Add { name: String, node: Node },
    Remove { name: String },
    Rename { from: String, to: String, node: Node },
}

#[derive(Clone, Default)]
pub(super) struct Directory {
    names: Names,
    durable: Names,
    pending: Vec<(Moment, Change)>,
}

impl Directory {
    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    pub(super) fn change(&mut self, moment: &mut Moment, change: Change) {
        *moment += 1;
        apply(&mut self.names, &change);
        self.pending.push((*moment, change));
    }

    /// Makes the names durable. True when something that was durable or pending is now forgotten.
    pub(super) fn sync(&mut self) -> bool {
        let mut forgets = false;
        for (_, change) in self.pending.drain(..) {
            forgets |= !matches!(change, Change::Add { .. });
        }
        self.durable.clone_from(&self.names);
        forgets
    }

    pub(super) fn oldest_pending(&self) -> Option<Moment> {
        self.pending.first().map(|(moment, _)| *moment)
    }

    /// Everything that a name stands for now or may stand for after a power cut.
    pub(super) fn mentions(&self) -> impl Iterator<Item = Node> {
        let pending = self.pending.iter().filter_map(|(_, change)| match change {
            Change::Add { node, .. } | Change::Rename { node, .. } => Some(*node),
            Change::Remove { .. } => None,
        });
        self.names.values().chain(self.durable.values()).copied().chain(pending)
    }

    /// The power is cut: what is left is durable.
    pub(super) fn settle(&mut self, fate: NameFate, prefix: Moment, rng: &mut Rng) {
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            return;
        }
        let mut names = self.durable.clone();
        match fate {
            NameFate::Lost => {}
            NameFate::Kept => names.clone_from(&self.names),
            NameFate::Prefix => {
                let survive = pending.iter().take_while(|(moment, _)| *moment < prefix);
                survive.for_each(|(_, change)| apply(&mut names, change));
            }
            NameFate::Subset => {
                for (_, change) in &pending {
                    if rng.bool() {
                        apply_half(&mut names, change, rng.bool());
                    }
                }
                self.bring_back(&mut names);
            }
        }
        self.durable.clone_from(&names);
        self.names = names;
    }

    /// A file that had a durable name and still has one must not lose both.
    fn bring_back(&self, names: &mut Names) {
        // Each round gives one name its present meaning for good, so it ends.
        loop {
            let missing = self.names.iter().find(|(_, node)| {
                let had = self.durable.values().any(|durable| durable == *node);
                had && !names.values().any(|survivor| survivor == *node)
            });
            let Some((name, node)) = missing else { return };
            names.insert(name.clone(), *node);
        }
    }
}

fn apply(names: &mut Names, change: &Change) {
    apply_half(names, change, false);
}

/// `keep_old`: a rename whose new name reached the medium and the removal of the old one did not.
fn apply_half(names: &mut Names, change: &Change, keep_old: bool) {
    match change {
        Change::Add { name, node } => {
            names.insert(name.clone(), *node);
        }
        Change::Remove { name } => {
            names.remove(name);
        }
        Change::Rename { from, to, node } => {
            names.insert(to.clone(), *node);
            // A directory never has two names.
            let moves = !keep_old || matches!(node, Node::Directory(_));
            if moves && names.get(from) == Some(node) {
                names.remove(from);
            }
        }
    }
}
