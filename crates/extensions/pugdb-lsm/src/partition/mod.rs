//! The partitioned engine: one keyspace over several trees, each for some of the keys. Write path, step 5; read path, step 1.
//!
//! The trees share the log, the sequence and the snapshots of their database, so a batch over several of them is one
//! commit, and a scan over all of them is of one moment, without a word between them. Each has memtables, runs and merges of its
//! own. Which one holds a key says a [`PartitionMap`]; it changes whole, at a seqno, and a reader from before it reads the trees from
//! before.

mod heat;
mod map;
mod scan;
mod trees;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pugdb_core::engine::{
    Capabilities, Counts, Cursor, Direction, Engine, KeyRange, Operands, Persistence, ReadPoint, Scans,
};
use pugdb_core::seam::{AtHand, Wait};
use pugdb_core::{Found, KeyspaceId, Operation, Ops, Result, Seqno};

pub use heat::Heat;
pub use map::{PartitionBy, PartitionMap, SLOTS, slot};
pub use trees::Trees;

use self::heat::{Marks, Thermometer};
use self::scan::{Chained, Merged};
use crate::tree::{Approximate, Tree, TreeSizes, TreeView};

/// A keyspace's partitions.
pub struct Partitions {
    id: KeyspaceId,
    layout: ArcSwap<Layout>,
    /// What the partitions had had when it was looked.
    marks: Mutex<Marks>,
}

/// The partitions from one moment on.
struct Layout {
    /// The change that made it what it is.
    since: Seqno,
    map: PartitionMap,
    /// In the order of the map.
    parts: Vec<Part>,
    /// What readers from before `since` read.
    older: Option<Arc<Layout>>,
}

/// One partition.
#[derive(Clone)]
struct Part {
    tree: Arc<Tree>,
    heat: Arc<Thermometer>,
}

/// A partition as its keyspace's statistics show it.
#[derive(Clone)]
pub struct PartitionView {
    /// Its tree.
    pub tree: Arc<Tree>,
    /// Its place in the map.
    pub number: usize,
    /// How many operations it has had since the open.
    pub heat: Heat,
    /// And since it was looked ten seconds ago or earlier.
    pub recent: Heat,
    /// Whether that is far more than its share.
    pub is_hot: bool,
}

impl Partitions {
    pub(crate) fn new(id: KeyspaceId, map: PartitionMap, since: Seqno, trees: Vec<Arc<Tree>>) -> Arc<Self> {
        let layout = ArcSwap::from_pointee(Layout::new(map, since, trees, None));
        Arc::new(Self { id, layout, marks: Mutex::default() })
    }

    /// Its keyspace.
    pub fn id(&self) -> KeyspaceId {
        self.id
    }

    /// Which partition holds which keys now.
    pub fn map(&self) -> PartitionMap {
        self.layout.load().map.clone()
    }

    /// The partitions at this moment of the stopwatch, in order.
    pub fn views(&self, now: Duration) -> Vec<PartitionView> {
        let layout = self.layout.load();
        let heats: Vec<(KeyspaceId, Heat)> =
            layout.parts.iter().map(|part| (part.tree.id(), part.heat.read())).collect();
        let recent = self.marks.lock().look(now, &heats);
        let hot = Heat::hot(&recent);
        let parts = layout.parts.iter().zip(heats).enumerate();
        parts
            .map(|(number, (part, (_, heat)))| PartitionView {
                tree: Arc::clone(&part.tree),
                number,
                heat,
                recent: recent[number],
                is_hot: hot[number],
            })
            .collect()
    }

    /// The trees now, in order.
    pub fn trees(&self) -> Vec<Arc<Tree>> {
        self.layout.load().parts.iter().map(|part| Arc::clone(&part.tree)).collect()
    }

    /// A tree that is like all others: its options are theirs.
    pub fn any(&self) -> Arc<Tree> {
        Arc::clone(&self.layout.load().parts[0].tree)
    }

    /// Whether the change at this seqno is done.
    pub(crate) fn is_known(&self, change: Seqno) -> bool {
        change <= self.layout.load().since
    }

    /// From `since` on these trees hold the keys, as `map` says.
    pub(crate) fn change(&self, map: PartitionMap, since: Seqno, trees: Vec<Arc<Tree>>) {
        let now = self.layout.load_full();
        self.layout.store(Arc::new(Layout::new(map, since, trees, Some(now))));
    }

    /// Forgets what nobody at or behind `horizon` reads.
    pub(crate) fn settle(&self, horizon: Seqno) {
        if self.layout.load().older.is_some() {
            self.layout.rcu(|layout| layout.cut(horizon));
        }
    }

    /// [`get`](Engine::get) at the read point that `point` gives when this has got hold of what it looks at.
    #[inline]
    pub fn get_unpinned(
        &self,
        key: &[u8],
        wait: Wait,
        point: impl FnOnce() -> Result<ReadPoint>,
    ) -> Result<AtHand<Option<Found>>> {
        let layout = self.layout.load();
        layout.part_read(key).tree.get_unpinned(key, wait, point)
    }

    /// [`exists`](Engine::exists), with a read point as [`get_unpinned`](Self::get_unpinned) has it.
    pub fn exists_unpinned(&self, key: &[u8], point: impl FnOnce() -> Result<ReadPoint>) -> Result<bool> {
        let layout = self.layout.load();
        layout.part_read(key).tree.exists_unpinned(key, point)
    }

    /// What the trees take, all together.
    pub fn sizes(&self) -> TreeSizes {
        let layout = self.layout.load();
        layout.parts.iter().fold(TreeSizes::default(), |sum, part| sum.with(part.tree.sizes()))
    }

    /// About how many keys there are, as [`Tree::key_estimate`] says.
    pub fn key_estimate(&self) -> u64 {
        self.layout.load().parts.iter().map(|part| part.tree.key_estimate()).sum()
    }

    /// About how much a range holds, in all partitions that can have some of it.
    ///
    /// # Errors
    /// As [`Tree::approximate`].
    pub fn approximate(&self, range: &KeyRange) -> Result<Approximate> {
        let layout = self.layout.load();
        let mut sum = Approximate::default();
        for part in &layout.parts[layout.map.overlapping(range)] {
            let of_part = part.tree.approximate(range)?;
            sum.bytes = sum.bytes.saturating_add(of_part.bytes);
            sum.entries = sum.entries.saturating_add(of_part.entries);
        }
        Ok(sum)
    }

    /// What the trees are made of now, if a filter may make entries go.
    pub(crate) fn filtered_view(&self) -> Option<PartitionsView> {
        let layout = self.layout.load_full();
        let views: Option<Vec<TreeView>> =
            layout.parts.iter().map(|part| part.tree.filtered_view()).collect();
        Some(PartitionsView { views: views?.into(), layout })
    }

    /// [`apply`](Engine::apply) that says what each tree got: bytes that count in the budget of memory.
    pub(crate) fn apply_counted(
        &self,
        first: Seqno,
        ops: &Ops,
        count: &mut dyn FnMut(&Arc<Tree>, usize),
    ) -> Result<()> {
        let layout = self.layout.load();
        // What most commits are; it asks for no memory.
        if ops.len() == 1
            && let Some(Operation::Entry(op)) = ops.iter().next()
        {
            let part = &layout.parts[layout.map.route(op.key)];
            part.heat.written(1);
            if part.tree.applied() < first {
                part.tree.apply(first, ops)?;
                count(&part.tree, ops.cost_bytes());
            }
            return Ok(());
        }
        let mut routed: Vec<Vec<(Seqno, Operation<'_>)>> = vec![Vec::new(); layout.parts.len()];
        for (seqno, op) in ops.behind(Seqno::ZERO, first) {
            match &op {
                Operation::Entry(entry) => routed[layout.map.route(entry.key)].push((seqno, op)),
                Operation::DeleteRange(span) => {
                    let overlapping = layout.map.overlapping(&span.range());
                    routed[overlapping].iter_mut().for_each(|part| part.push((seqno, op)));
                }
            }
        }
        for (part, ops) in layout.parts.iter().zip(routed).filter(|(_, ops)| !ops.is_empty()) {
            part.heat.written(ops.len() as u64);
            let bytes = part.tree.apply_some(&ops);
            count(&part.tree, bytes);
        }
        Ok(())
    }
}

impl Layout {
    fn new(map: PartitionMap, since: Seqno, trees: Vec<Arc<Tree>>, older: Option<Arc<Layout>>) -> Self {
        assert_eq!(map.len(), trees.len(), "each partition has a tree");
        for tree in &trees {
            tree.set_siblings(trees.len());
        }
        // A tree that stays goes on counting.
        let known = older.as_ref().map_or(&[][..], |older| &older.parts);
        let part = |tree: Arc<Tree>| {
            let known = known.iter().find(|part| Arc::ptr_eq(&part.tree, &tree));
            let heat = known.map_or_else(Arc::default, |part| Arc::clone(&part.heat));
            Part { tree, heat }
        };
        Self { since, map, parts: trees.into_iter().map(part).collect(), older }
    }

    /// Itself without what nobody at or behind `horizon` reads.
    fn cut(self: &Arc<Self>, horizon: Seqno) -> Arc<Self> {
        let older = self.older.as_ref().filter(|_| self.since > horizon).map(|older| older.cut(horizon));
        if older.is_none() && self.older.is_none() {
            return Arc::clone(self);
        }
        let (map, parts) = (self.map.clone(), self.parts.clone());
        Arc::new(Self { since: self.since, map, parts, older })
    }

    /// The partitions as a reader at `seqno` has to see them.
    fn at(&self, seqno: Seqno) -> &Self {
        match &self.older {
            Some(older) if seqno < self.since => older.at(seqno),
            _ => self,
        }
    }

    fn part_read(&self, key: &[u8]) -> &Part {
        let part = &self.parts[self.map.route(key)];
        part.heat.read_one();
        part
    }

    /// Several keys, asked of their partitions by `ask` and put together in their order.
    fn multi_get(
        &self,
        keys: &[&[u8]],
        mut ask: impl FnMut(usize, &[&[u8]]) -> Result<Vec<Option<Found>>>,
    ) -> Result<Vec<Option<Found>>> {
        let mut places: Vec<Vec<usize>> = vec![Vec::new(); self.parts.len()];
        for (place, key) in keys.iter().enumerate() {
            places[self.map.route(key)].push(place);
        }
        let mut all: Vec<Option<Found>> = vec![None; keys.len()];
        for (number, places) in places.iter().enumerate().filter(|(_, places)| !places.is_empty()) {
            self.parts[number].heat.read_many(places.len() as u64);
            let keys: Vec<&[u8]> = places.iter().map(|place| keys[*place]).collect();
            for (place, found) in places.iter().zip(ask(number, &keys)?) {
                all[*place] = found;
            }
        }
        Ok(all)
    }
}

/// A scan of the partitions that can hold keys of a range, of which `open` makes one.
fn scan(
    layout: &Arc<Layout>,
    range: &KeyRange,
    direction: Direction,
    open: impl Fn(usize) -> Result<Box<dyn Cursor>> + Send + 'static,
) -> Result<Box<dyn Cursor>> {
    let overlapping = layout.map.overlapping(range);
    layout.parts[overlapping.clone()].iter().for_each(|part| part.heat.read_one());
    if overlapping.len() == 1 {
        return open(overlapping.start);
    }
    if layout.map.by() == PartitionBy::Range {
        return Ok(Box::new(Chained::new(overlapping, direction, open)));
    }
    Ok(Box::new(Merged::new(overlapping.map(open).collect::<Result<_>>()?, direction)))
}

impl Engine for Partitions {
    fn capabilities(&self) -> Capabilities {
        let (scans, persistence) = (Scans::Ordered, Persistence::Durable);
        Capabilities { scans, persistence, operands: Operands::Folded }
    }

    fn apply(&self, first: Seqno, ops: &Ops) -> Result<()> {
        self.apply_counted(first, ops, &mut |_, _| ())
    }

    fn truncate(&self, at: Seqno) -> Result<()> {
        self.layout.load().parts.iter().try_for_each(|part| part.tree.truncate(at))
    }

    fn get(&self, key: &[u8], point: ReadPoint) -> Result<Option<Found>> {
        self.layout.load().at(point.seqno).part_read(key).tree.get(key, point)
    }

    fn try_get(&self, key: &[u8], point: ReadPoint) -> Result<AtHand<Option<Found>>> {
        self.layout.load().at(point.seqno).part_read(key).tree.try_get(key, point)
    }

    fn exists(&self, key: &[u8], point: ReadPoint) -> Result<bool> {
        self.layout.load().at(point.seqno).part_read(key).tree.exists(key, point)
    }

    fn multi_get(&self, keys: &[&[u8]], point: ReadPoint) -> Result<Vec<Option<Found>>> {
        let layout = self.layout.load();
        let layout = layout.at(point.seqno);
        layout.multi_get(keys, |number, keys| layout.parts[number].tree.multi_get(keys, point))
    }

    fn changed_since(&self, key: &[u8], since: Seqno) -> Result<bool> {
        let layout = self.layout.load();
        // Of what lies in other trees since then nobody knows what it was before.
        if layout.since > since {
            return Ok(true);
        }
        layout.parts[layout.map.route(key)].tree.changed_since(key, since)
    }

    fn range_changed_since(&self, range: &KeyRange, since: Seqno) -> Result<bool> {
        let layout = self.layout.load();
        if layout.since > since {
            return Ok(true);
        }
        for part in &layout.parts[layout.map.overlapping(range)] {
            if part.tree.range_changed_since(range, since)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn scan(&self, range: KeyRange, direction: Direction, point: ReadPoint) -> Result<Box<dyn Cursor>> {
        let layout = self.layout_at(point.seqno);
        let (parts, of_part) = (layout.clone(), range.clone());
        scan(&layout, &range, direction, move |number| {
            parts.parts[number].tree.scan(of_part.clone(), direction, point)
        })
    }

    fn count(&self, range: KeyRange, point: ReadPoint) -> Result<Counts> {
        let layout = self.layout_at(point.seqno);
        let parts = &layout.parts[layout.map.overlapping(&range)];
        parts
            .iter()
            .try_fold(Counts::default(), |sum, part| Ok(sum.with(part.tree.count(range.clone(), point)?)))
    }
}

impl Partitions {
    fn layout_at(&self, seqno: Seqno) -> Arc<Layout> {
        let mut layout = self.layout.load_full();
        while let Some(older) = layout.older.as_ref().filter(|_| seqno < layout.since) {
            layout = Arc::clone(older);
        }
        layout
    }
}

/// What a snapshot reads of a keyspace of which a filter may make entries go without a commit.
#[derive(Clone)]
pub enum KeyspaceView {
    /// It has one tree.
    Tree(TreeView),
    /// It has several.
    Partitions(PartitionsView),
}

/// The trees of a keyspace held fast.
#[derive(Clone)]
pub struct PartitionsView {
    layout: Arc<Layout>,
    views: Arc<[TreeView]>,
}

impl KeyspaceView {
    fn of(&self, key: &[u8]) -> &TreeView {
        match self {
            Self::Tree(view) => view,
            Self::Partitions(view) => &view.views[view.layout.map.route(key)],
        }
    }

    /// As [`TreeView::look`].
    ///
    /// # Errors
    /// As it.
    pub fn look(&self, key: &[u8], point: ReadPoint, wait: Wait) -> Result<AtHand<Option<Found>>> {
        self.of(key).look(key, point, wait)
    }

    /// As [`TreeView::exists`].
    ///
    /// # Errors
    /// As it.
    pub fn exists(&self, key: &[u8], point: ReadPoint) -> Result<bool> {
        self.of(key).exists(key, point)
    }

    /// As [`TreeView::multi_get`].
    ///
    /// # Errors
    /// As it.
    pub fn multi_get(&self, keys: &[&[u8]], point: ReadPoint) -> Result<Vec<Option<Found>>> {
        match self {
            Self::Tree(view) => view.multi_get(keys, point),
            Self::Partitions(PartitionsView { layout, views }) => {
                layout.multi_get(keys, |number, keys| views[number].multi_get(keys, point))
            }
        }
    }

    /// As [`TreeView::scan`].
    ///
    /// # Errors
    /// None today.
    pub fn scan(&self, range: KeyRange, direction: Direction, point: ReadPoint) -> Result<Box<dyn Cursor>> {
        match self {
            Self::Tree(view) => Ok(view.scan(range, direction, point)),
            Self::Partitions(PartitionsView { layout, views }) => {
                let (views, of_part) = (Arc::clone(views), range.clone());
                scan(layout, &range, direction, move |number| {
                    Ok(views[number].scan(of_part.clone(), direction, point))
                })
            }
        }
    }
}
