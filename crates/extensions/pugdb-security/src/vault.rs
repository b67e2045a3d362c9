//! The keys of an open database: made, found, rotated. It is the [`Cipher`] of an encrypted database.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::{Mutex, RwLock};
use pugdb_core::coding::index;
use pugdb_core::env::{Access, Env, sync_parents};
use pugdb_core::seam::{Cipher, FileCipher, FileContext, FileKind, Plain, SealedWith};
use pugdb_core::{DatabaseId, Error, ErrorKind, KeyspaceId, Result, SealId, Timestamp};
use subtle::ConstantTimeEq as _;

use crate::aead::Algorithm;
use crate::audit::{Action, Count, Event, Witness};
use crate::certificate::signer;
use crate::derive::{Derivation, PUBLIC_BYTES, Purpose, SALT_BYTES};
use crate::erasure::ValueKeys;
use crate::file_cipher::{Header, SealedFile};
use crate::keyring::file::{FILE_BYTES_MAX, beside, encode, read, replace};
use crate::keyring::{ERASURE_BYTES_MAX, Generation, KeyId, Keyring};
use crate::provider::RootProvider;
use crate::secret::Secret;

/// The keyring's name in a database's directory.
pub const KEYRING: &str = "KEYRING";
/// Keyspaces that get keys before anybody asks for them, so that not each one that is made writes the keyring.
const SPARE_KEYSPACES: u32 = 16;

/// The keys of one database.
///
/// ```
/// use std::sync::Arc;
/// use pugdb_core::env::Env;
/// use pugdb_security::{KeyFile, Vault};
///
/// # let dir = tempfile::tempdir().unwrap();
/// let keyring = dir.path().join("KEYRING");
/// let provider = Arc::new(KeyFile::new(dir.path().join("root.key")));
/// let database = Vault::create(&Env::os(), &keyring, provider.clone())?.database();
///
/// let vault = Vault::open(&Env::os(), &keyring, provider)?;
/// assert_eq!(vault.database(), database);
/// let before = vault.status().keyring_generation;
/// vault.rotate()?;
/// assert_eq!(vault.status().keyring_generation, before + 1);
/// # Ok::<(), pugdb_core::Error>(())
/// ```
pub struct Vault {
    env: Env,
    path: PathBuf,
    provider: Arc<dyn RootProvider>,
    pub(crate) algorithm: Algorithm,
    database: DatabaseId,
    /// True when another process may change the keyring.
    pub(crate) is_borrowed: bool,
    /// When it is to be looked at again then, in milliseconds of the monotonic clock.
    pub(crate) look_at_ms: AtomicU64,
    /// Who changes the keyring holds it while its file is written.
    pub(crate) change: Mutex<Change>,
    /// What the file holds. Read for each new file, never held while a disk is waited for.
    pub(crate) state: RwLock<State>,
    pub(crate) values: ValueKeys,
    /// Who is told before keys are changed.
    witness: RwLock<Option<Arc<dyn Witness>>>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    access: KeyringAccess,
    /// The newest generation that this vault has tried to write: after an error it may be there or not.
    attempted: u64,
}

/// May this process write the keyring?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyringAccess {
    /// The database was closed: somebody else may hold its lock.
    Closed,
    /// It holds the database's lock.
    Own,
    /// Somebody else's.
    Borrowed,
}

#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) keyring: Keyring,
    epoch: Secret,
    /// The epoch key as the provider has wrapped it.
    wrapped: Vec<u8>,
    /// How long the keyring's file is.
    bytes: u64,
}

/// What a vault can say of its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStatus {
    /// The database they belong to.
    pub database: DatabaseId,
    /// How often the keyring was written.
    pub keyring_generation: u64,
    /// How long its file is.
    pub keyring_bytes: u64,
    /// Where the root key is kept.
    pub provider: String,
    /// Who that protects the data from, and from whom it does not.
    pub protects: &'static str,
    /// What keeps the root key from being lost.
    pub safekeeping: &'static str,
    /// True when the provider can destroy a root key that was replaced.
    pub destroys: bool,
    /// How new files are sealed.
    pub algorithm: Algorithm,
    /// The keys of the database, oldest first.
    pub database_keys: Vec<KeyAge>,
    /// The keyspaces that have keys.
    pub keyspaces: Vec<KeyspaceKeys>,
    /// The keyspaces that were erased, and when.
    pub erased_keyspaces: Vec<(KeyspaceId, Timestamp)>,
    /// How many subjects were erased.
    pub erased_subjects: usize,
    /// How many more fit into the keyring, about.
    pub erasures_left: usize,
    /// The public key that certificates of erasures are signed with (Ed25519).
    pub signer: [u8; 32],
}

/// A database that was not encrypted.
#[derive(Clone, Debug)]
pub struct Adopted {
    /// Which it is.
    pub database: DatabaseId,
    /// No keyspace with this number or a larger one was ever made.
    pub next_keyspace: KeyspaceId,
    /// The trees of partitions, and of which keyspace.
    pub owners: BTreeMap<KeyspaceId, KeyspaceId>,
}

/// One key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyAge {
    /// Ascending from 1; new files are made with the largest.
    pub number: u64,
    /// When it was made.
    pub made_at: Timestamp,
}

/// The keys of one keyspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyspaceKeys {
    /// Which keyspace.
    pub keyspace: KeyspaceId,
    /// Its keys, oldest first.
    pub keys: Vec<KeyAge>,
}

/// What a rotation has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The keyring's generation before.
    pub keyring_before: u64,
    /// The keyring's generation now.
    pub keyring_generation: u64,
    /// How many bytes were written: the keyring's. Data is not touched.
    pub bytes: u64,
    /// True when what could open older copies of the keyring was destroyed.
    pub destroyed: bool,
}

impl Vault {
    /// Makes the keys of a new database, and their file at `path`.
    ///
    /// # Errors
    /// `Conflict` when there is a keyring; what keeps the provider from its root key; what the disk says.
    pub fn create(env: &Env, path: &Path, provider: Arc<dyn RootProvider>) -> Result<Arc<Self>> {
        // A creation that was cut off has left a root key that names the database.
        let database = provider.begun(env)?.unwrap_or_else(|| DatabaseId::random(&*env.random));
        Self::create_for(env, path, provider, database, |_| ())
    }

    /// Makes the keys of a database that was not encrypted before. Until [`forget_plain_past`](Self::forget_plain_past) its log and its
    /// manifest may be as they were.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn adopt(
        env: &Env,
        path: &Path,
        provider: Arc<dyn RootProvider>,
        adopted: Adopted,
    ) -> Result<Arc<Self>> {
        Self::create_for(env, path, provider, adopted.database, |keyring| {
            keyring.provide(adopted.next_keyspace, env.clock.now(), &*env.random);
            keyring.own_those(adopted.owners);
            keyring.has_plain_past = true;
        })
    }

    fn create_for(
        env: &Env,
        path: &Path,
        provider: Arc<dyn RootProvider>,
        database: DatabaseId,
        change: impl FnOnce(&mut Keyring),
    ) -> Result<Arc<Self>> {
        if read(env, path)?.is_some() {
            return Err(Error::conflict("there is a keyring already"));
        }
        let epoch = Secret::random(&*env.random);
        let wrapped = provider.wrap(env, database, &epoch)?;
        let keyring = Keyring::new(database, env.clock.now(), &*env.random);
        let algorithm = Algorithm::of_this_machine();
        let state = State { keyring, epoch, wrapped, bytes: 0 };
        let vault = Self::with(env, path, provider, algorithm, (KeyringAccess::Own, state));
        let mut state = vault.state.read().clone();
        state.keyring.provide(KeyspaceId(1 + SPARE_KEYSPACES), env.clock.now(), &*env.random);
        change(&mut state.keyring);
        vault.write(&mut vault.change.lock(), state)?;
        // Before the provider takes the database for one that there is.
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            sync_parents(&*env.fs, dir)?;
        }
        vault.settle()?;
        Ok(vault)
    }

    /// True while the database may have files of the time when it was not encrypted, beside those that the manifest says are plain.
    pub fn has_plain_past(&self) -> bool {
        self.state.read().keyring.has_plain_past
    }

    /// From now on such a file is an error: none is left. It is a rotation as well, since a copy of the keyring that lets such files in would
    /// let in forged ones: where the provider can destroy a root key, no such copy opens any more.
    ///
    /// # Errors
    /// As [`rotate`](Self::rotate).
    pub fn forget_plain_past(&self) -> Result<()> {
        let ended = self.replace_epoch(|keyring| {
            keyring.has_plain_past = false;
            Ok(())
        });
        ended.map(drop)
    }

    /// True when there is a keyring at `path`.
    ///
    /// # Errors
    /// What the disk says.
    pub fn exists(env: &Env, path: &Path) -> Result<bool> {
        match env.fs.open(path, Access::Read) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("look for the keyring", error)),
        }
    }

    /// Opens the keys in the file at `path`, and ends what a rotation that was cut off has left.
    ///
    /// # Errors
    /// `NotFound` without the file or the root key, `Denied` with another root key, `Corrupt` when the file was changed; what the disk says.
    pub fn open(env: &Env, path: &Path, provider: Arc<dyn RootProvider>) -> Result<Arc<Self>> {
        let vault = Self::read(env, path, provider, KeyringAccess::Own)?;
        let _ = env.fs.remove(&beside(path));
        // What is read may not be durable yet, and its root key is about to be the only one.
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        env.fs.sync_dir(dir).map_err(|error| Error::io("sync the directory of the keyring", error))?;
        vault.settle()?;
        vault.end_begun_erasures();
        Ok(vault)
    }

    /// Ends what can be done with the keyring: from now on another process may have the database. Files that are open stay readable.
    pub fn close(&self) {
        self.change.lock().access = KeyringAccess::Closed;
    }

    /// Opens the keys of somebody else, who may be changing them: they can be used, and not rotated or added to.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_beside(env: &Env, path: &Path, provider: Arc<dyn RootProvider>) -> Result<Arc<Self>> {
        Self::read(env, path, provider, KeyringAccess::Borrowed)
    }

    fn read(
        env: &Env,
        path: &Path,
        provider: Arc<dyn RootProvider>,
        access: KeyringAccess,
    ) -> Result<Arc<Self>> {
        let (algorithm, state) = read_state(env, path, &*provider)?;
        Ok(Self::with(env, path, provider, algorithm, (access, state)))
    }

    fn with(
        env: &Env,
        path: &Path,
        provider: Arc<dyn RootProvider>,
        algorithm: Algorithm,
        (access, state): (KeyringAccess, State),
    ) -> Arc<Self> {
        let values = ValueKeys::default();
        values.clear(state.keyring.generation);
        Arc::new(Self {
            is_borrowed: access == KeyringAccess::Borrowed,
            look_at_ms: AtomicU64::new(0),
            values,
            env: env.clone(),
            path: path.to_owned(),
            provider,
            algorithm,
            database: state.keyring.database,
            change: Mutex::new(Change { access, attempted: 0 }),
            state: RwLock::new(state),
            witness: RwLock::new(None),
        })
    }

    /// The database that the keys belong to.
    pub fn database(&self) -> DatabaseId {
        self.database
    }

    /// What there is to say of the keys; none of them is shown.
    pub fn status(&self) -> KeyStatus {
        let state = self.state.read();
        let ages = |generations: &[Generation]| -> Vec<KeyAge> {
            generations.iter().map(|key| KeyAge { number: key.number, made_at: key.made_at }).collect()
        };
        KeyStatus {
            database: self.database,
            keyring_generation: state.keyring.generation,
            keyring_bytes: state.bytes,
            provider: self.provider.describe(),
            protects: self.provider.protects(),
            safekeeping: self.provider.safekeeping(),
            destroys: self.provider.destroys(),
            algorithm: self.algorithm,
            database_keys: ages(state.keyring.database_keys().generations()),
            keyspaces: state
                .keyring
                .keyspaces()
                .map(|(keyspace, keys)| KeyspaceKeys { keyspace, keys: ages(keys.generations()) })
                .collect(),
            erased_keyspaces: state.keyring.erased().collect(),
            erased_subjects: state.keyring.subjects.erased().len(),
            erasures_left: erasures_left(state.bytes),
            signer: signer(&state.keyring.signing),
        }
    }

    /// Takes a new root key and a new epoch key: the keyring is sealed anew, the data stays as it is, and older copies of the keyring
    /// cannot be opened any more where the provider can destroy its old root key.
    ///
    /// # Errors
    /// What keeps the provider from its root key; what the disk says: the keys go on to work, old or new. `Conflict` when another process
    /// has changed the keyring, `Denied` when it is another directory's, `Closed`.
    pub fn rotate(&self) -> Result<Rotation> {
        self.witnessed(|_| Event::begun(Action::KeyRotate), || self.replace_epoch(|_| Ok(())))
    }

    /// New keys for all files that are made from now on. Those that are there keep theirs until they are written anew.
    ///
    /// # Errors
    /// As [`rotate`](Self::rotate).
    pub fn renew(&self) -> Result<Rotation> {
        let (now, random) = (self.env.clock.now(), &self.env.random);
        let renew = |keyring: &mut Keyring| {
            keyring.renew(now, &**random);
            Ok(())
        };
        self.witnessed(|_| Event::begun(Action::KeyRenew), || self.replace_epoch(renew))
    }

    /// Tells `witness` from now on, before keys are changed and afterwards, or nobody any more.
    pub fn set_witness(&self, witness: Option<Arc<dyn Witness>>) {
        *self.witness.write() = witness;
    }

    /// Changes keys between two words to the witness, if there is one. He may refuse it.
    pub(crate) fn witnessed<T>(
        &self,
        event: impl FnOnce(&Self) -> Event,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        // He may ask for keys: nothing is locked meanwhile.
        let witness = self.witness.read().clone();
        let Some(witness) = witness else { return work() };
        let event = event(self).count(Count::Keyring, self.state.read().keyring.generation);
        let begun = witness.before(event.clone())?;
        let outcome = work();
        let event = event.count(Count::Keyring, self.state.read().keyring.generation);
        witness.after(begun, event, outcome.as_ref().map(drop));
        outcome
    }

    /// Changes the keyring under a new epoch key, wrapped under a new root key, and destroys the old one. A crash leaves the old keyring
    /// with its root key, or the new one with its own: an open finds out which, and ends the rest.
    pub(crate) fn replace_epoch(&self, change: impl FnOnce(&mut Keyring) -> Result<()>) -> Result<Rotation> {
        self.replace_epoch_of(&mut self.change.lock(), change)
    }

    /// As [`replace_epoch`](Self::replace_epoch), for who changes the keyring already.
    pub(crate) fn replace_epoch_of(
        &self,
        own: &mut Change,
        change: impl FnOnce(&mut Keyring) -> Result<()>,
    ) -> Result<Rotation> {
        own.check()?;
        // Root keys of attempts that failed stay until one is durable: nobody knows which of them the disk needs.
        let mut state = self.state.read().clone();
        let keyring_before = state.keyring.generation;
        change(&mut state.keyring)?;
        state.keyring.end_erasures();
        state.epoch = Secret::random(&*self.env.random);
        state.wrapped = self.provider.wrap(&self.env, self.database, &state.epoch)?;
        self.write(own, state)?;
        self.settle()?;
        let state = self.state.read();
        Ok(Rotation {
            keyring_before,
            keyring_generation: state.keyring.generation,
            bytes: state.bytes,
            destroyed: self.provider.destroys(),
        })
    }

    /// Writes the file, then takes what it holds.
    pub(crate) fn write(&self, own: &mut Change, mut state: State) -> Result<()> {
        own.check()?;
        let known = state.keyring.generation.max(own.attempted);
        if read(&self.env, &self.path)?.is_some_and(|there| there.generation > known) {
            return Err(Error::conflict("another process has changed the keyring; open the database again"));
        }
        own.attempted = known + 1;
        state.keyring.generation = own.attempted;
        let mut salt = [0; SALT_BYTES];
        self.env.random.fill(&mut salt);
        let bytes = encode(&state.keyring, self.algorithm, &state.epoch, &state.wrapped, &salt)?;
        replace(&self.env, &self.path, &bytes, true)
            .map_err(|error| Error::io("write the keyring", error))?;
        state.bytes = bytes.len() as u64;
        self.take(state);
        Ok(())
    }

    fn take(&self, state: State) {
        let generation = state.keyring.generation;
        *self.state.write() = state;
        // Behind: what was derived from the old one in between is forgotten, or not kept.
        self.values.clear(generation);
    }

    /// Takes what another process has made of the keyring.
    pub(crate) fn reload(&self) -> Result<()> {
        let known = self.state.read().keyring.generation;
        // Most of the time it is as it was: its head says so.
        if read(&self.env, &self.path)?.is_some_and(|there| there.generation <= known) {
            return Ok(());
        }
        let (_, state) = read_state(&self.env, &self.path, &*self.provider)?;
        if state.keyring.generation > self.state.read().keyring.generation {
            self.take(state);
        }
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        let wrapped = self.state.read().wrapped.clone();
        self.provider.settle(&self.env, self.database, &wrapped)
    }

    /// The key that a file or a section is made with: of a keyspace, or of the database.
    pub(crate) fn newest(&self, keyspace: Option<KeyspaceId>) -> Result<(KeyId, Secret)> {
        let state = self.state.read();
        let keys = match keyspace {
            Some(keyspace) => state.keyring.keyspace_keys(keyspace)?,
            None => state.keyring.database_keys(),
        };
        let newest = keys
            .newest()
            .ok_or_else(|| Error::internal("a keyspace has a place for keys and none; please report it"))?;
        Ok((newest.id, newest.key.clone()))
    }

    /// The key that something was made with.
    ///
    /// # Errors
    /// `Denied` when it is not here.
    pub(crate) fn find(&self, keyspace: Option<KeyspaceId>, id: &KeyId) -> Result<Secret> {
        self.find_generation(keyspace, id).map(|generation| generation.key)
    }

    fn find_generation(&self, keyspace: Option<KeyspaceId>, id: &KeyId) -> Result<Generation> {
        self.look(keyspace, id).or_else(|error| {
            // Somebody else's keyring may have keys that were made since.
            if !self.is_borrowed {
                return Err(error);
            }
            self.reload()?;
            self.look(keyspace, id)
        })
    }

    fn look(&self, keyspace: Option<KeyspaceId>, id: &KeyId) -> Result<Generation> {
        let state = self.state.read();
        let keys = match keyspace {
            Some(keyspace) => state.keyring.keyspace_keys(keyspace)?,
            None => state.keyring.database_keys(),
        };
        keys.find(id).cloned().ok_or_else(|| {
            Error::denied("wrong key: the keyring does not have the key it was sealed with; it is another database's, or older than the data")
        })
    }
}

/// The keys are not shown.
impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vault(of database {:?})", self.database)
    }
}

/// How many more erasures a keyring of so many bytes can take.
fn erasures_left(bytes: u64) -> usize {
    index(FILE_BYTES_MAX.saturating_sub(bytes)) / ERASURE_BYTES_MAX
}

impl Change {
    pub(crate) fn check(&self) -> Result<()> {
        match self.access {
            KeyringAccess::Own => Ok(()),
            KeyringAccess::Closed => {
                Err(Error::closed("the database was closed; open it again to change its keys"))
            }
            KeyringAccess::Borrowed => Err(Error::denied(
                "the keyring is only read here, for it belongs to another directory or process; change keys and make keyspaces there",
            )),
        }
    }
}

/// Tries again when the keyring and its root key were changed between one look and the next.
const READS_MAX: usize = 16;

fn read_state(env: &Env, path: &Path, provider: &dyn RootProvider) -> Result<(Algorithm, State)> {
    let sealed = || {
        read(env, path).map_err(|error| error.at(KEYRING))?.ok_or_else(|| {
            Error::not_found(
                "there is no keyring: the database is not encrypted, or its keyring has to be put back",
            )
        })
    };
    let mut found = sealed()?;
    for _ in 1..READS_MAX {
        let unwrapped = provider.unwrap(env, found.database, &found.wrapped);
        if let Err(error) = &unwrapped {
            let again = sealed()?;
            if error.kind() == ErrorKind::Denied && again.generation > found.generation {
                found = again;
                continue;
            }
        }
        let epoch = unwrapped?;
        let (algorithm, bytes, wrapped) = (found.algorithm(), found.file_bytes(), found.wrapped.clone());
        let keyring = found.open(&epoch).map_err(|error| error.at(KEYRING))?;
        return Ok((algorithm, State { keyring, epoch, wrapped, bytes }));
    }
    Err(Error::unavailable("the keyring is changed all the time; try again"))
}

/// The cipher that a [`Vault`] is.
#[derive(Clone, Debug)]
pub struct VaultCipher(Arc<Vault>);

impl VaultCipher {
    /// What seals the files of the vault's database.
    pub fn new(vault: Arc<Vault>) -> Self {
        Self(vault)
    }
}

fn not_encrypted() -> Error {
    Error::denied("the file is not encrypted, and the database is: it was put there by somebody else")
}

impl Cipher for VaultCipher {
    fn create(&self, context: &FileContext) -> Result<(Vec<u8>, Arc<dyn FileCipher>)> {
        self.0.refuse_other_database(context)?;
        let mut salt = [0; SALT_BYTES];
        self.0.env.random.fill(&mut salt);
        let (id, parent) = self.0.newest(context.keyspace)?;
        let (header, file) = SealedFile::create(&self.0, self.0.algorithm, (id, &parent), context, salt);
        Ok((header.encode(), Arc::new(file)))
    }

    fn open(&self, context: &FileContext, header: &[u8]) -> Result<Arc<dyn FileCipher>> {
        if header.is_empty() {
            let may_be = context.keyspace.is_none() && context.kind != FileKind::Audit;
            return if may_be && self.0.has_plain_past() {
                Cipher::open(&Plain, context, header)
            } else {
                Err(not_encrypted())
            };
        }
        self.0.refuse_other_database(context)?;
        let header = Header::decode(header)?;
        let parent = self.0.find(context.keyspace, &header.parent)?;
        Ok(Arc::new(SealedFile::open(&self.0, &header, &parent, context)?))
    }

    fn sealed_with(&self, context: &FileContext, header: &[u8]) -> Result<Option<SealedWith>> {
        if header.is_empty() {
            return Ok(None);
        }
        let header = Header::decode(header)?;
        let generation = self.0.find_generation(context.keyspace, &header.parent)?.number;
        Ok(Some(SealedWith { algorithm: header.algorithm.name(), generation: Some(generation) }))
    }

    fn provide(&self, made: Range<KeyspaceId>, owner: Option<KeyspaceId>) -> Result<()> {
        self.0.provide(&made, owner)
    }

    fn is_erased(&self, seal: SealId) -> bool {
        self.0.state.read().keyring.subjects.is_erased(seal)
    }

    fn has_erased(&self) -> bool {
        self.0.state.read().keyring.subjects.erased().len() > 0
    }

    fn erased_below(&self) -> KeyspaceId {
        let state = self.0.state.read();
        KeyspaceId(state.keyring.erased().map(|(keyspace, _)| keyspace.0 + 1).max().unwrap_or(0))
    }

    fn database(&self) -> Option<DatabaseId> {
        Some(self.0.database)
    }

    fn vouch(&self, statement: &[u8]) -> Result<Vec<u8>> {
        let (id, key) = self.0.newest(None)?;
        Ok([id.0, self.0.statement_tag(&key, statement)].concat())
    }

    fn check(&self, statement: &[u8], tag: &[u8]) -> Result<()> {
        if tag.is_empty() {
            return if self.0.has_plain_past() { Ok(()) } else { Err(not_encrypted()) };
        }
        let changed = || Error::corrupt("it was changed; restore it from a backup");
        let (id, tag) = tag.split_first_chunk::<PUBLIC_BYTES>().ok_or_else(changed)?;
        let expected = self.0.statement_tag(&self.0.find(None, &KeyId(*id))?, statement);
        if bool::from(expected[..].ct_eq(tag)) { Ok(()) } else { Err(changed()) }
    }
}

impl Vault {
    fn refuse_other_database(&self, context: &FileContext) -> Result<()> {
        if context.database == self.database {
            return Ok(());
        }
        Err(Error::denied("wrong key: the keyring is of another database than the file"))
    }

    /// Nobody can make it without the key: HKDF's second step is an HMAC of what is derived for.
    fn statement_tag(&self, key: &Secret, statement: &[u8]) -> [u8; PUBLIC_BYTES] {
        let context = [&self.database.0[..], statement].concat();
        Derivation::new(key, &[]).public(Purpose::Statement, &context)
    }

    fn provide(&self, made: &Range<KeyspaceId>, owner: Option<KeyspaceId>) -> Result<()> {
        let is_there = |keyring: &Keyring| keyring.provided() >= made.end && keyring.is_owned(made, owner);
        if is_there(&self.state.read().keyring) {
            return Ok(());
        }
        let mut own = self.change.lock();
        let mut state = self.state.read().clone();
        if !is_there(&state.keyring) {
            if state.keyring.provided() < made.end {
                let end = KeyspaceId(made.end.0.saturating_add(SPARE_KEYSPACES));
                state.keyring.provide(end, self.env.clock.now(), &*self.env.random);
            }
            state.keyring.own(made, owner);
            self.write(&mut own, state)?;
        }
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn provider(&self) -> &Arc<dyn RootProvider> {
        &self.provider
    }

    pub(crate) fn provider_name(&self) -> String {
        self.provider.describe()
    }

    pub(crate) fn env(&self) -> &Env {
        &self.env
    }
}
