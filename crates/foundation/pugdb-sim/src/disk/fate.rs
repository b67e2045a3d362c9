//! What a power cut leaves of what was never synced: one fate for content and one for names, drawn from the seed.

use fastrand::Rng;

/// What happens to unsynced file content when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentFate {
    /// All of it is lost.
    Lost,
    /// All of it survives.
    Kept,
    /// Everything before one moment survives, nothing after it: a disk that keeps the order.
    Prefix,
    /// Every sector and every length is any of its versions: a disk that does not.
    Reordered,
    /// As [`Reordered`](Self::Reordered), and sectors can be part one version, part another.
    Torn,
    /// New lengths survive, the content behind the durable length is zeros or garbage, the rest is lost.
    Unwritten,
}

impl ContentFate {
    /// Every fate.
    pub const ALL: [Self; 6] =
        [Self::Lost, Self::Kept, Self::Prefix, Self::Reordered, Self::Torn, Self::Unwritten];
}

/// What happens to unsynced directory entries when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameFate {
    /// All of them are lost; what was removed is back.
    Lost,
    /// All of them survive.
    Kept,
    /// Everything before one moment survives. With [`ContentFate::Prefix`] it is the same moment.
    Prefix,
    /// Each change by itself. A renamed file can have the old name, the new name or both, never neither.
    Subset,
}

impl NameFate {
    /// Every fate.
    pub const ALL: [Self; 4] = [Self::Lost, Self::Kept, Self::Prefix, Self::Subset];
}

/// Draws both fates.
pub(crate) fn draw(rng: &mut Rng) -> (ContentFate, NameFate) {
    let content = ContentFate::ALL[rng.usize(0..ContentFate::ALL.len())];
    (content, NameFate::ALL[rng.usize(0..NameFate::ALL.len())])
}
