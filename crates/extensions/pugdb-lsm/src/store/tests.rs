//! What the manifest is told of tables that have just gone.

use pugdb_core::engine::Engine;
use pugdb_core::env::Env;
use pugdb_core::observer::Observers;
use pugdb_core::seam::Plain;
use pugdb_core::{Entry, Ops, Value};

use super::*;
use crate::TreeOptions;
use crate::manifest;
use crate::table::LocalTables;
use crate::tree::TableChange;

/// A store without a log, in which one keyspace has one table.
fn store_of_one_table() -> (Arc<Store>, Arc<Tree>, Arc<LiveTable>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let env = Env::os();
    env.fs.create_dir_all(&dir.path().join("tables")).unwrap();
    let mut context = Context {
        tables: Arc::new(LocalTables::new(&env, dir.path().join("tables"))),
        env,
        dir: dir.path().to_path_buf(),
        database: pugdb_core::DatabaseId([0; 16]),
        cipher: Arc::new(Plain),
        observers: Observers::default(),
    };
    context.database = manifest::new_database(&context);
    let snapshots = Snapshots::new(Seqno::ZERO);
    let manifest = Manifest::begin(context.clone(), State::new(context.database), 1).unwrap();
    let options = StoreOptions {
        memtable_bytes: 1 << 20,
        unflushed_bytes_max: 8 << 20,
        cache_bytes: 1 << 20,
        expiry_grace: Duration::ZERO,
        policy: CompactionPolicy::default(),
        table_bytes: 1 << 20,
        compaction_jobs: 1,
        background_bytes_per_second: None,
        scrub_interval: None,
        reserve_bytes: 0,
    };
    let code = (Filters::default(), Operators::default());
    let store = Store::open(context, options, code, Arc::clone(&snapshots), manifest);
    let options = TreeOptions::default();
    let trees = store.create(KeyspaceId(1), "users", (EngineKind::Lsm, None), options, Seqno(1)).unwrap();
    let tree = Arc::clone(trees.one().unwrap());
    let mut ops = Ops::default();
    ops.push(&Entry::put(Value::new(b"1815".to_vec()).unwrap()).raw(b"ada")).unwrap();
    tree.apply(Seqno(2), &ops).unwrap();
    snapshots.publish(Seqno(2));
    tree.seal();
    store.flush_here().unwrap();
    let live = Arc::clone(&tree.version().runs[0].tables[0]);
    (store, tree, live, dir)
}

/// Takes the table out, as a merge does.
fn remove(store: &Store, tree: &Arc<Tree>, live: &Arc<LiveTable>) {
    let tables = TableChange { removed: vec![Arc::clone(live)], added: Vec::new() };
    let install = || tree.install_tables(&tables);
    let edits = tables.edits(tree.id());
    let change = Change { tree, about: None, edits, flushed: None, install: Box::new(install) };
    assert_eq!(store.commit(&[change]).unwrap(), [true]);
}

#[test]
fn damage_is_not_recorded_of_a_table_that_a_merge_has_just_removed() {
    let (store, tree, live, _dir) = store_of_one_table();
    remove(&store, &tree, &live);
    // The scrub, or a merge, found it damaged meanwhile. The manifest would refuse what names no table of its.
    store.quarantine(&tree, &live).unwrap();
    assert!(store.failure().is_none() && !live.is_quarantined());
    assert!(store.state().keyspaces[&tree.id()].tables.is_empty());
}

#[test]
fn damage_is_recorded_of_a_table_that_is_there() {
    let (store, tree, live, _dir) = store_of_one_table();
    store.quarantine(&tree, &live).unwrap();
    assert!(live.is_quarantined());
    assert!(store.state().keyspaces[&tree.id()].tables[0].quarantined);
    assert_eq!(store.stats().quarantined, 1);
}
