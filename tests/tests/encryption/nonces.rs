//! No key seals one position twice, over many lives that end in kills and power cuts.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use pugdb::keys::{GivenKey, Secret, Vault, VaultCipher};
use pugdb::{Database, DatabaseId, KeyspaceId, Result};
use pugdb_core::env::os::OsRandom;
use pugdb_core::seam::{Cipher, FileCipher, FileContext, Scope};
use pugdb_sim::World;

use super::{DIR, TARGET, small};

/// Every (key, position) that was ever used. A key is known by what its file's header or its introduction says.
type Used = Arc<Mutex<HashSet<(Vec<u8>, u64)>>>;

struct Recorder {
    inner: VaultCipher,
    used: Used,
}

struct RecordedFile {
    inner: Arc<dyn FileCipher>,
    used: Used,
    own: Vec<u8>,
    sections: Mutex<BTreeMap<KeyspaceId, Vec<u8>>>,
    is_shared: bool,
}

impl Recorder {
    fn file(&self, context: &FileContext, header: &[u8], inner: Arc<dyn FileCipher>) -> Arc<dyn FileCipher> {
        Arc::new(RecordedFile {
            inner,
            used: Arc::clone(&self.used),
            own: header.to_vec(),
            sections: Mutex::default(),
            is_shared: context.keyspace.is_none(),
        })
    }
}

impl Cipher for Recorder {
    fn create(&self, context: &FileContext) -> Result<(Vec<u8>, Arc<dyn FileCipher>)> {
        let (header, inner) = self.inner.create(context)?;
        let file = self.file(context, &header, inner);
        Ok((header, file))
    }

    fn open(&self, context: &FileContext, header: &[u8]) -> Result<Arc<dyn FileCipher>> {
        let inner = self.inner.open(context, header)?;
        Ok(self.file(context, header, inner))
    }

    fn provide(&self, made: std::ops::Range<KeyspaceId>, owner: Option<KeyspaceId>) -> Result<()> {
        self.inner.provide(made, owner)
    }

    fn database(&self) -> Option<DatabaseId> {
        self.inner.database()
    }

    fn vouch(&self, statement: &[u8]) -> Result<Vec<u8>> {
        self.inner.vouch(statement)
    }

    fn check(&self, statement: &[u8], tag: &[u8]) -> Result<()> {
        self.inner.check(statement, tag)
    }
}

impl FileCipher for RecordedFile {
    fn tag_bytes(&self) -> usize {
        self.inner.tag_bytes()
    }

    fn introduce(&self, keyspace: KeyspaceId) -> Result<Vec<u8>> {
        let introduction = self.inner.introduce(keyspace)?;
        self.sections.lock().insert(keyspace, introduction.clone());
        Ok(introduction)
    }

    fn accept(&self, keyspace: KeyspaceId, introduction: &[u8]) -> Result<()> {
        self.inner.accept(keyspace, introduction)
    }

    fn seal(
        &self,
        scope: Scope,
        position: u64,
        associated: &[u8],
        data: &mut Vec<u8>,
        from: usize,
    ) -> Result<()> {
        let key = match scope {
            Scope::Keyspace(keyspace) if self.is_shared => self.sections.lock()[&keyspace].clone(),
            _ => self.own.clone(),
        };
        assert!(self.used.lock().insert((key, position)), "position {position} is sealed twice");
        self.inner.seal(scope, position, associated, data, from)
    }

    fn open(&self, scope: Scope, position: u64, associated: &[u8], sealed: &mut [u8]) -> Result<usize> {
        self.inner.open(scope, position, associated, sealed)
    }
}

fn live(world: &World, key: &GivenKey, used: &Used) -> Result<Database> {
    let (env, keyring) = (world.env(), Path::new("keys/KEYRING"));
    env.fs.create_dir_all(Path::new("keys")).map_err(|error| pugdb::Error::io("make a directory", error))?;
    let vault = if Vault::exists(&env, keyring)? {
        Vault::open(&env, keyring, Arc::new(key.clone()))?
    } else {
        Vault::create(&env, keyring, Arc::new(key.clone()))?
    };
    small(world)
        .cipher(Arc::new(Recorder { inner: VaultCipher::new(vault), used: Arc::clone(used) }))
        .open(DIR)
}

#[test]
fn no_key_seals_a_position_twice_over_kills_and_power_cuts() {
    pugdb_sim::check(TARGET, "no_key_seals_a_position_twice", 0..6, |seed| {
        let mut world = World::new(seed);
        let mut chance = fastrand::Rng::with_seed(seed);
        let key = GivenKey::new(Secret::random(&OsRandom));
        let used = Used::default();
        let mut lives = 0;
        for life in 0..40_u64 {
            world.stop_at(world.calls() + chance.u64(20..600));
            // The machine stops somewhere: what came before it is what counts.
            let _ = (|| -> Result<()> {
                let db = live(&world, &key, &used)?;
                lives += 1;
                for number in 0..60_u64 {
                    let space = db.keyspace(&format!("space{}", chance.u8(0..4)))?;
                    space.put(number.to_le_bytes(), vec![chance.u8(..); chance.usize(1..500)])?;
                    if chance.u8(..) < 20 {
                        db.flush()?;
                    }
                    if chance.u8(..) < 20 {
                        space.compact_range(..)?;
                    }
                    world.maybe_step();
                }
                if life % 5 == 0 { db.close() } else { Ok(()) }
            })();
            world = if chance.bool() { world.kill() } else { world.power_cut() };
        }
        let count = used.lock().len();
        assert!(lives > 20 && count > 1000, "{lives} lives, {count} seals");
    });
}
