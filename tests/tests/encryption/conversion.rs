//! A database that was not encrypted and is, keyspaces that are left plain, files that are written anew with newer keys: while the power
//! fails, and with files that are not as the manifest says.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pugdb::keys::{KeyFile, Vault, VaultCipher};
use pugdb::{
    Compression, Database, ErrorKind, Isolation, KeyspaceOptions, Partitioning, Result, Rewritten, Sealing,
    TransactionOptions,
};
use pugdb_core::observer::Observers;
use pugdb_core::{KeyspaceId, RawOp, Seqno};
use pugdb_lsm::file::Context;
use pugdb_lsm::table::{BlockCache, LocalTables, Table, TableMeta, TableOptions, TableWriter, WrittenTable};
use pugdb_sim::World;
use pugdb_tests::hostile::decent;

use super::forged::{checksum, files, header_length, is_refused};
use super::{DIR, KEY_FILE, KEYRING, TARGET, copy_of, encrypted, fill, is_filled, open, small};

/// What was prepared while the database was plain.
const PREPARED: &str = "order 17";
/// Where a table's header keeps how long the cipher's part is: it has no part of its own.
const CIPHER_AT: usize = 56;

/// Filled, and not encrypted.
fn plain(seed: u64) -> World {
    let world = World::new(seed);
    let db = small(&world).open(DIR).unwrap();
    fill(&db);
    let options = KeyspaceOptions::default();
    let parts = db.partitioned_keyspace("parts", &Partitioning::Hash { partitions: 3 }, options).unwrap();
    for number in 0..30_u8 {
        parts.put([number; 3], [number; 90]).unwrap();
    }
    // More than a keyring has keys for before anybody asks.
    for number in 0..20 {
        db.keyspace(&format!("more {number}")).unwrap().put([number], [number]).unwrap();
    }
    // One that writes in two keyspaces and has read in a third.
    let serializable = TransactionOptions { isolation: Isolation::Serializable, ..Default::default() };
    let mut transaction = db.begin_with(serializable).unwrap();
    assert!(transaction.get(&parts, [0; 3]).unwrap().is_some());
    transaction.put(&db.keyspace("users").unwrap(), "late", [2; 100]).unwrap();
    transaction.put(&db.keyspace("names").unwrap(), "late", "too").unwrap();
    drop(transaction.prepare(PREPARED).unwrap());
    db.close().unwrap();
    world
}

/// Whatever else is true, this one is undecided, and holds on to what it is about.
fn is_prepared(db: &Database) {
    assert_eq!(db.prepared_transactions().unwrap(), [PREPARED]);
    for (keyspace, key) in [("users", &b"late"[..]), ("names", b"late"), ("parts", &[0; 3])] {
        let refused = db.keyspace(keyspace).unwrap().put(key, "x").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict, "{keyspace}");
    }
}

fn is_all_there(db: &Database) {
    is_filled(db);
    let parts = db.keyspace("parts").unwrap();
    for number in 0..30_u8 {
        assert_eq!(parts.get([number; 3]).unwrap().unwrap(), [number; 90][..]);
    }
    is_prepared(db);
}

/// How many files have nothing sealed in their headers.
fn plain_files(world: &World) -> usize {
    let parts = ["/log/", "manifest-", ".table", ".values"].map(|part| files(world, part));
    let is_plain = |path: &std::path::PathBuf| {
        let bytes = world.read_file(path).unwrap();
        // The length of the extra part, the part, then the length of the cipher's.
        let extra = u32::from_le_bytes(bytes[52..56].try_into().unwrap()) as usize;
        bytes[56 + extra..60 + extra] == [0; 4]
    };
    parts.iter().flatten().filter(|path| is_plain(path)).count()
}

/// A run of bytes that only a value has.
fn shows_values(world: &World) -> bool {
    copy_of(world, DIR).iter().any(|(_, bytes)| bytes.windows(80).any(|window| window == [2; 80]))
}

fn convert(world: &World) -> Result<Rewritten> {
    let db = encrypted(world).encrypt(DIR)?;
    let done = db.rewrite(None)?;
    db.close().map(|()| done)
}

#[test]
fn a_plain_database_is_encrypted_and_nothing_of_it_is_left_in_the_clear() {
    let world = plain(1);
    assert!(shows_values(&world), "the control");
    let db = encrypted(&world).encrypt(DIR).unwrap();
    is_all_there(&db);
    assert!(plain_files(&world) > 0, "tables are as they were");
    db.keyspace("users").unwrap().put([0], [3; 400]).unwrap();
    let done = db.rewrite(None).unwrap();
    assert!(done.files > 5 && done.bytes > 1000 && (done.left_files, done.left_bytes) == (0, 0), "{done:?}");
    assert_eq!(db.rewrite(None).unwrap(), Rewritten::default(), "once is enough");
    is_all_there(&db);
    db.close().unwrap();
    assert_eq!(plain_files(&world), 0);
    assert!(!shows_values(&world));

    assert_eq!(small(&world).open(DIR).unwrap_err().kind(), ErrorKind::Denied);
    is_all_there(&open(&world).unwrap());
    // A second time it is opened, and nothing is made anew.
    let keyring = world.read_file(KEYRING).unwrap();
    assert_eq!(convert(&world).unwrap(), Rewritten::default());
    assert_eq!(world.read_file(KEYRING).unwrap(), keyring);
}

#[test]
fn an_encryption_cut_at_each_call_leaves_all_data_and_can_be_gone_on_with() {
    pugdb_sim::check(TARGET, "an_encryption_cut_at_each_call", 0..1, |seed| {
        let calls = {
            let world = plain(seed);
            let before = world.calls();
            convert(&world).unwrap();
            world.calls() - before
        };
        assert!(calls > 100, "{calls}");
        for call in 0..calls {
            for is_kill in [true, false] {
                let world = plain(seed);
                world.stop_at(world.calls() + call);
                let outcome = convert(&world);
                assert!(outcome.is_err() || call > calls / 2, "call {call}");
                let world = if is_kill { world.kill() } else { world.power_cut() };
                let here = format!("call {call}, kill {is_kill}");
                let at = |error: pugdb::Error| panic!("{here}: {error}");
                let is_encrypted = world.read_file(KEYRING).is_ok();
                let opened = if is_encrypted { open(&world) } else { small(&world).open(DIR) };
                is_all_there(&opened.unwrap_or_else(at));
                convert(&world).unwrap_or_else(|error| panic!("{here}: {error}"));
                assert_eq!(plain_files(&world), 0, "{here}");
                is_all_there(&open(&world).unwrap_or_else(at));
            }
        }
    });
}

/// What was prepared has no seals of its own then, and gets them: it goes with its keyspaces as all else does.
#[test]
fn what_was_prepared_before_is_decided_after() {
    for is_committed in [true, false] {
        let world = plain(11);
        encrypted(&world).encrypt(DIR).unwrap().close().unwrap();
        let db = open(&world).unwrap();
        is_all_there(&db);
        let prepared = db.prepared_transaction(PREPARED).unwrap().unwrap();
        if is_committed { prepared.commit() } else { prepared.rollback() }.unwrap();
        db.close().unwrap();
        let db = open(&world).unwrap();
        assert!(db.prepared_transactions().unwrap().is_empty());
        for (keyspace, value) in [("users", &[2; 100][..]), ("names", b"too")] {
            let value = is_committed.then_some(value);
            assert_eq!(db.keyspace(keyspace).unwrap().get("late").unwrap().as_deref(), value);
        }
        // Its table has it still, in the clear.
        let made_since = db.keyspace("since").unwrap();
        made_since.put("k", "v").unwrap();
        drop(made_since);
        let error = db.erase_keyspace("since").unwrap_err();
        assert!(
            error.kind() == ErrorKind::Invalid && decent(&error).contains("what was prepared"),
            "{error}"
        );
        assert_eq!(db.rewrite(None).unwrap().left_files, 0);
        db.erase_keyspace("since").unwrap().unwrap();
        db.close().unwrap();
        assert!(!shows_values(&world) && plain_files(&world) == 0);
    }
}

/// A copy of the keyring from the time of the conversion would let any plain directory in, whoever made it.
#[test]
fn no_keyring_of_the_conversion_opens_when_it_is_over() {
    let world = plain(13);
    let before = copy_of(&world, DIR);
    let begun = world.calls();
    encrypted(&world).encrypt(DIR).unwrap().close().unwrap();
    let calls = world.calls() - begun;
    let now = world.read_file(KEYRING).unwrap();
    // The same seed, the same keyrings.
    let keyrings: std::collections::BTreeSet<Vec<u8>> = (0..calls)
        .filter_map(|call| {
            let cut = plain(13);
            cut.stop_at(cut.calls() + call);
            let _ = encrypted(&cut).encrypt(DIR).and_then(|db| db.close());
            cut.kill().read_file(KEYRING).ok()
        })
        .collect();
    assert!(keyrings.len() > 1 && keyrings.contains(&now), "{}", keyrings.len());
    for keyring in keyrings.into_iter().filter(|keyring| *keyring != now) {
        let world = world.kill();
        for (path, _) in copy_of(&world, DIR) {
            world.remove_file(&path).unwrap();
        }
        for (path, bytes) in &before {
            world.write_file(path, bytes).unwrap();
        }
        world.write_file(KEYRING, &keyring).unwrap();
        let error = open(&world).unwrap_err();
        assert!(error.kind() == ErrorKind::Denied && decent(&error).contains("is an older copy"), "{error}");
    }
}

/// Once nothing plain is left in log and manifest, such files are somebody else's.
#[test]
fn the_files_of_before_are_refused_when_the_database_was_encrypted() {
    let world = plain(2);
    let mut before = copy_of(&world, DIR);
    // What is closed leaves no log.
    let db = small(&world).open(DIR).unwrap();
    db.keyspace("users").unwrap().put([0], [3; 400]).unwrap();
    before.extend(copy_of(&world, "db/log"));
    db.close().unwrap();
    encrypted(&world).encrypt(DIR).unwrap().close().unwrap();
    for part in ["CURRENT", "manifest-", "/log/"] {
        let world = world.kill();
        let put_back = before.iter().filter(|(path, _)| path.to_string_lossy().contains(part));
        for (path, bytes) in put_back {
            world.write_file(path, bytes).unwrap();
        }
        if part == "manifest-" {
            // Under the name that `CURRENT` has.
            let old = before.iter().rfind(|(path, _)| path.to_string_lossy().contains(part)).unwrap();
            world.write_file(files(&world, part).last().unwrap(), &old.1).unwrap();
        }
        let error = open(&world).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{part}: {error}");
        assert!(decent(&error).contains("the file is not encrypted, and the database is"), "{part}: {error}");
    }
}

/// Trees of partitions were made before there were keys, and are known all the same.
#[test]
fn what_was_partitioned_before_is_erased_with_all_its_parts() {
    let world = plain(8);
    convert(&world).unwrap();
    let db = open(&world).unwrap();
    db.prepared_transaction(PREPARED).unwrap().unwrap().rollback().unwrap();
    let keys = db.keys().unwrap();
    let before = keys.status().keyspaces.len();
    db.erase_keyspace("parts").unwrap().unwrap();
    let status = keys.status();
    assert_eq!((status.erased_keyspaces.len(), before - status.keyspaces.len()), (4, 4));
}

#[test]
fn encrypting_needs_a_root_key_a_database_and_no_plain_audit_log() {
    let world = plain(3);
    assert_eq!(small(&world).encrypt(DIR).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(encrypted(&world).encrypt("nowhere").unwrap_err().kind(), ErrorKind::NotFound);
    small(&world).audit(pugdb::audit::AuditOptions::default()).open(DIR).unwrap().close().unwrap();
    let error = encrypted(&world).encrypt(DIR).unwrap_err();
    assert!(
        error.kind() == ErrorKind::Invalid && decent(&error).contains("move its directory `audit`"),
        "{error}"
    );
    is_all_there(&small(&world).open(DIR).unwrap());
}

fn plain_keyspace() -> KeyspaceOptions {
    let bottom_compression = Some(Compression::None);
    KeyspaceOptions { sealing: Some(Sealing::Plain), bottom_compression, ..KeyspaceOptions::default() }
}

/// Two keyspaces, of which one is plain, in tables and value files.
fn half(world: &World) -> Database {
    let db = open(world).unwrap();
    db.keyspace_with("users", plain_keyspace()).unwrap();
    fill(&db);
    db.flush().unwrap();
    db
}

#[test]
fn a_keyspace_can_be_left_plain_and_only_its_tables_and_values_are() {
    let world = World::new(4);
    let db = half(&world);
    is_filled(&db);
    assert_eq!(db.keyspace("users").unwrap().options().sealing, Some(Sealing::Plain));
    assert!(shows_values(&world));
    db.close().unwrap();
    let (all, plain) = (files(&world, "/tables/").len(), plain_files(&world));
    assert!(plain > 0 && plain < all, "{plain} of {all}");
    // Names, and all that the log has, are sealed.
    assert!(copy_of(&world, DIR).iter().all(|(_, bytes)| bytes.windows(5).all(|window| window != b"users")));

    let db = open(&world).unwrap();
    is_filled(&db);
    assert_eq!(db.keyspace("users").unwrap().options().sealing, Some(Sealing::Plain));
    let error = db.erase_keyspace("users").unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && decent(&error).contains("no key erases those"), "{error}");
    // What is changed comes to the files that are there.
    let users = db.keyspace("users").unwrap();
    let sealed = KeyspaceOptions { sealing: Some(Sealing::Sealed), ..KeyspaceOptions::default() };
    users.alter(sealed).unwrap();
    assert!(db.rewrite(None).unwrap().files > 1);
    is_filled(&db);
    // A job removes the files.
    drop(users);
    db.close().unwrap();
    assert!(!shows_values(&world) && plain_files(&world) == 0);
    let db = open(&world).unwrap();
    let users = db.keyspace("users").unwrap();
    users.alter(plain_keyspace()).unwrap();
    assert!(db.rewrite(None).unwrap().files > 0);
    is_filled(&db);
    assert!(shows_values(&world));
    users.alter(sealed).unwrap();
    db.rewrite(None).unwrap();
    db.erase_keyspace("users").unwrap().unwrap();
}

#[test]
fn not_all_keyspaces_can_be_plain_in_an_encrypted_database() {
    let world = World::new(5);
    let error = encrypted(&world).default_options(plain_keyspace()).open(DIR).unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && decent(&error).contains("one by one"), "{error}");
}

/// The manifest says of each file how it is: whoever can write the disk cannot choose.
#[test]
fn a_file_that_is_sealed_otherwise_than_the_manifest_says_is_refused() {
    let world = World::new(6);
    half(&world).close().unwrap();
    let mut forged = 0;
    let of = |path: &Path| world.read_file(path).unwrap();
    let has_cipher = |bytes: &[u8]| bytes[CIPHER_AT..CIPHER_AT + 4] != [0; 4];
    let donor = files(&world, ".table").iter().map(|path| of(path)).find(|bytes| has_cipher(bytes)).unwrap();
    for part in [".table", ".values"] {
        for path in &files(&world, part) {
            let bytes = of(path);
            let content = bytes[header_length(&bytes)..].to_vec();
            let mut header = bytes[..CIPHER_AT].to_vec();
            if has_cipher(&bytes) {
                header.extend_from_slice(&[0; 4]);
            } else {
                header.extend_from_slice(&donor[CIPHER_AT..header_length(&donor) - 8]);
            }
            let length = u32::try_from(header.len() + 8).unwrap();
            header[12..16].copy_from_slice(&length.to_le_bytes());
            let sum = checksum(&bytes).at(0, &header);
            header.extend_from_slice(&sum.to_le_bytes());
            let copy = world.kill();
            copy.write_file(path, &[header, content].concat()).unwrap();
            is_refused(&copy, path);
            forged += 1;
        }
    }
    assert!(forged > 3, "{forged}");
}

/// Refused for what it is, also if somebody has made it well.
#[test]
fn a_whole_table_that_is_sealed_otherwise_than_is_said_of_it_does_not_open() {
    let world = World::new(10);
    let env = world.env();
    env.fs.create_dir_all(Path::new("db/tables")).unwrap();
    let vault = Vault::create(&env, Path::new(KEYRING), Arc::new(KeyFile::new(KEY_FILE))).unwrap();
    let context = Context {
        env: env.clone(),
        dir: DIR.into(),
        database: vault.database(),
        cipher: Arc::new(VaultCipher::new(vault)),
        tables: Arc::new(LocalTables::new(&env, "db/tables".into())),
        observers: Observers::default(),
    };
    let both = [Sealing::Sealed, Sealing::Plain];
    for sealing in both {
        let options = TableOptions { sealing, ..TableOptions::default() };
        let mut writer = TableWriter::create(&context, KeyspaceId(1), options).unwrap();
        writer.add(Seqno(1), &RawOp::put(b"ada", b"1815")).unwrap();
        let meta = WrittenTable::sync(vec![writer.finish().unwrap()]).unwrap().remove(0);
        assert_eq!(meta.sealing, sealing);
        for said in both {
            let meta = TableMeta { sealing: said, ..meta.clone() };
            let bounds = meta.bounds();
            let opened = Table::open(&context, Arc::new(BlockCache::new(0)), Arc::new(meta), bounds, None);
            let words = match said {
                _ if said == sealing => {
                    opened.unwrap();
                    continue;
                }
                Sealing::Sealed => "the file is not encrypted",
                Sealing::Plain => "the file is encrypted",
            };
            let error = opened.err().unwrap();
            assert!(error.kind() == ErrorKind::Denied && decent(&error).contains(words), "{error}");
        }
    }
}

/// A value file that is full and alive is written anew when it is named, and not because a merge came by.
#[test]
fn large_value_files_under_older_keys_are_written_anew_too() {
    let world = World::new(9);
    let db = encrypted(&world).memory_bytes(8 << 20).memtable_bytes(64 << 10).open(DIR).unwrap();
    let users = db.keyspace("users").unwrap();
    let value = |number: u8| -> Vec<u8> {
        (0..900_u16).map(|byte| (byte.wrapping_mul(31 + u16::from(number)) >> 3).to_le_bytes()[0]).collect()
    };
    for number in 0..200 {
        users.put([number], value(number)).unwrap();
    }
    db.flush().unwrap();
    let before = files(&world, ".values");
    db.keys().unwrap().renew().unwrap();
    world.advance(Duration::from_secs(1));
    let done = db.rewrite(Some(Duration::ZERO)).unwrap();
    assert_eq!((done.left_files, done.left_bytes), (0, 0), "{done:?}");
    assert!((0..200).all(|number| users.get([number]).unwrap().unwrap() == value(number)[..]));
    drop(users);
    db.close().unwrap();
    let after = files(&world, ".values");
    assert!(!before.is_empty() && before.iter().all(|path| !after.contains(path)));
}

#[test]
fn files_under_older_keys_are_written_anew_with_the_newest_ones() {
    let world = World::new(7);
    let db = open(&world).unwrap();
    fill(&db);
    db.flush().unwrap();
    let keys = db.keys().unwrap();
    assert_eq!(db.rewrite(Some(Duration::ZERO)).unwrap(), Rewritten::default());
    world.advance(Duration::from_mins(1));
    keys.renew().unwrap();
    world.advance(Duration::from_mins(1));
    let day = Duration::from_hours(24);
    assert_eq!(db.rewrite(Some(day)).unwrap(), Rewritten::default(), "they are younger");
    assert_eq!(db.rewrite(None).unwrap(), Rewritten::default(), "they are sealed");
    let before = files(&world, "/tables/");
    let done = db.rewrite(Some(Duration::ZERO)).unwrap();
    assert!(done.files > 3 && done.left_files == 0, "{done:?}");
    is_filled(&db);
    db.close().unwrap();
    let after = files(&world, "/tables/");
    assert!(before.iter().all(|path| !after.contains(path)), "of the older ones none is left");
    is_filled(&open(&world).unwrap());
}
