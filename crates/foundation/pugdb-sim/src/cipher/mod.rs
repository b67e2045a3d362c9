//! A cipher for tests: no cryptography, but as strict as one, so that an engine that misuses its keys is caught.
//!
//! What a real cipher forbids is an error here: sealing one position twice, sealing in a reopened file, a section
//! of a keyspace that was never introduced, a piece moved to another place, file or database. A piece that does not
//! open is wiped, as an AEAD leaves it. Headers differ in length from file to file.

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use pugdb_core::coding::Reader;
use pugdb_core::env::Random;
use pugdb_core::seam::{Cipher, FileCipher, FileContext, Scope};
use pugdb_core::{Error, KeyspaceId, Result};

#[cfg(test)]
mod tests;

/// A strict [`Cipher`] without cryptography.
///
/// ```
/// use std::sync::Arc;
/// use pugdb_core::env::os::OsRandom;
/// use pugdb_core::seam::{Cipher, FileContext, FileKind, Scope};
/// use pugdb_core::{DatabaseId, FileId};
/// use pugdb_sim::TestCipher;
///
/// let cipher = TestCipher::new(7, Arc::new(OsRandom));
/// let context = FileContext {
///     database: DatabaseId([1; 16]), file: FileId([2; 16]), kind: FileKind::Log, keyspace: None,
/// };
/// let (header, file) = cipher.create(&context).unwrap();
/// let mut data = b"pug".to_vec();
/// file.seal(Scope::Database, 0, b"", &mut data, 0).unwrap();
/// assert!(file.seal(Scope::Database, 0, b"", &mut vec![1], 0).is_err());
///
/// let reader = cipher.open(&context, &header).unwrap();
/// assert_eq!(reader.open(Scope::Database, 0, b"", &mut data).unwrap(), 3);
/// assert_eq!(&data[..3], b"pug");
/// ```
#[derive(Clone)]
pub struct TestCipher {
    shared: Arc<Shared>,
}

struct Shared {
    root: Secret,
    random: Arc<dyn Random>,
    seals: AtomicU64,
    opens: AtomicU64,
    /// The keyspaces whose keys are gone.
    destroyed: Mutex<BTreeSet<KeyspaceId>>,
}

/// How many bytes a seal adds.
const TAG_BYTES: usize = 16;
/// The fixed part of a header: salt 8, commitment 16, framing key 16, tag 16, checksum 8.
const HEADER_BYTES_MIN: usize = 64;
/// A header's padding is shorter than this.
const PADDING_BYTES_LIMIT: u64 = 40;

impl TestCipher {
    /// All keys come from `root_secret`, salts from `random`.
    pub fn new(root_secret: u64, random: Arc<dyn Random>) -> Self {
        let root = Hash::new([root_secret, 0], Purpose::Root).finish();
        let (seals, opens, destroyed) = Default::default();
        Self { shared: Arc::new(Shared { root, random, seals, opens, destroyed }) }
    }

    /// Destroys a keyspace's key: from now on nothing that it sealed can be opened from disk, and nothing new sealed.
    /// Files that are open keep the keys they have.
    pub fn destroy_keyspace(&self, keyspace: KeyspaceId) {
        self.shared.destroyed.lock().insert(keyspace);
    }

    /// How many pieces were sealed.
    pub fn seals(&self) -> u64 {
        self.shared.seals.load(Ordering::Relaxed)
    }

    /// How many pieces were opened.
    pub fn opens(&self) -> u64 {
        self.shared.opens.load(Ordering::Relaxed)
    }
}

impl Cipher for TestCipher {
    fn create(&self, context: &FileContext) -> Result<(Vec<u8>, Arc<dyn FileCipher>)> {
        let salt = self.shared.random_word();
        let framing = self.shared.random_secret();
        let file = TestFile::new(&self.shared, context, salt, framing, Use::Write)?;
        Ok((self.shared.header(context, salt, framing), Arc::new(file)))
    }

    fn open(&self, context: &FileContext, header: &[u8]) -> Result<Arc<dyn FileCipher>> {
        let (salt, framing) = self.shared.read_header(context, header)?;
        Ok(Arc::new(TestFile::new(&self.shared, context, salt, framing, Use::Read)?))
    }

    fn vouch(&self, statement: &[u8]) -> Result<Vec<u8>> {
        Ok([to_bytes(self.shared.commitment(0)), self.shared.statement_tag(statement)].concat())
    }

    fn check(&self, statement: &[u8], tag: &[u8]) -> Result<()> {
        match tag.split_at_checked(16) {
            None => Err(Error::denied("a statement is not sealed, and the database is")),
            Some((key, _)) if key != to_bytes(self.shared.commitment(0)) => {
                Err(Error::denied("wrong key: the statement was sealed under another one"))
            }
            Some((_, tag)) if tag == self.shared.statement_tag(statement) => Ok(()),
            Some(_) => Err(Error::corrupt("a statement was changed")),
        }
    }
}

impl Shared {
    fn random_word(&self) -> u64 {
        let mut bytes = [0; 8];
        self.random.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn random_secret(&self) -> Secret {
        [self.random_word(), self.random_word()]
    }

    fn database_key(&self) -> Secret {
        Hash::new(self.root, Purpose::DatabaseKey).finish()
    }

    fn statement_tag(&self, statement: &[u8]) -> [u8; 16] {
        to_bytes(Hash::new(self.database_key(), Purpose::Statement).bytes(statement).finish())
    }

    fn keyspace_key(&self, keyspace: KeyspaceId) -> Result<Secret> {
        if self.destroyed.lock().contains(&keyspace) {
            return Err(Error::erased(format!("the key of keyspace {keyspace} was destroyed")));
        }
        Ok(Hash::new(self.root, Purpose::KeyspaceKey).word(keyspace.0.into()).finish())
    }

    fn header(&self, context: &FileContext, salt: u64, framing: Secret) -> Vec<u8> {
        let key = self.database_key();
        let mut out = salt.to_le_bytes().to_vec();
        out.extend_from_slice(&to_bytes(self.commitment(salt)));
        out.extend_from_slice(&to_bytes(wrap(key, context, salt, framing)));
        out.extend_from_slice(&to_bytes(
            Hash::new(key, Purpose::Header).context(context).bytes(&out).finish(),
        ));
        out.resize(header_bytes(salt) - 8, 0xa5);
        out.extend_from_slice(&checksum(&out));
        out
    }

    /// Three questions, each with its own answer: is it whole (`Corrupt`), is it this key's (`Denied`), is it this
    /// file's (`Corrupt`)?
    fn read_header(&self, context: &FileContext, header: &[u8]) -> Result<(u64, Secret)> {
        let damaged = || Error::corrupt("a file's key header is damaged; run `pugdb verify`");
        let mut reader = Reader::new(header);
        let salt = reader.u64()?;
        if header.len() != header_bytes(salt) {
            return Err(damaged());
        }
        let (body, sum) = header.split_at(header.len() - 8);
        if sum != checksum(body) {
            return Err(damaged());
        }
        if reader.array()? != to_bytes(self.commitment(salt)) {
            return Err(Error::denied("wrong key: the file was sealed under another one"));
        }
        let wrapped = from_bytes(reader.array()?);
        let key = self.database_key();
        let expected = Hash::new(key, Purpose::Header).context(context).bytes(&header[..40]).finish();
        if reader.array()? != to_bytes(expected) {
            return Err(Error::corrupt("a key header belongs to another file; run `pugdb verify`"));
        }
        Ok((salt, wrap(key, context, salt, wrapped)))
    }

    fn commitment(&self, salt: u64) -> Secret {
        Hash::new(self.root, Purpose::Commitment).word(salt).finish()
    }
}

fn header_bytes(salt: u64) -> usize {
    HEADER_BYTES_MIN + pugdb_core::coding::index(salt % PADDING_BYTES_LIMIT)
}

fn checksum(bytes: &[u8]) -> [u8; 8] {
    Hash::new([0, 0], Purpose::Checksum).bytes(bytes).finish()[0].to_le_bytes()
}

/// Covers `secret` with a pad of `key`; done twice, it is uncovered.
fn wrap(key: Secret, context: &FileContext, salt: u64, secret: Secret) -> Secret {
    let pad = Hash::new(key, Purpose::Wrap).context(context).word(salt).finish();
    [secret[0] ^ pad[0], secret[1] ^ pad[1]]
}

/// What a file's keys may be used for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// It was created here: sealing, and opening what was sealed.
    Write,
    /// It was opened: a second writer would reuse positions, so it can only open.
    Read,
}

struct TestFile {
    shared: Arc<Shared>,
    context: FileContext,
    allowed: Use,
    framing: Secret,
    /// The content key of a file that belongs to one keyspace.
    own: Option<Secret>,
    state: Mutex<FileState>,
}

#[derive(Default)]
struct FileState {
    /// The section keys of a shared file.
    sections: BTreeMap<KeyspaceId, Secret>,
    /// What has been sealed: a second time would reuse a nonce.
    sealed: HashSet<(Scope, u64)>,
}

impl TestFile {
    fn new(
        shared: &Arc<Shared>,
        context: &FileContext,
        salt: u64,
        framing: Secret,
        allowed: Use,
    ) -> Result<Self> {
        let own = context.keyspace.map(|keyspace| {
            let key = shared.keyspace_key(keyspace)?;
            Ok(Hash::new(key, Purpose::Content).context(context).word(salt).finish())
        });
        let (shared, own) = (Arc::clone(shared), own.transpose()?);
        Ok(Self { shared, context: *context, allowed, framing, own, state: Mutex::default() })
    }

    fn key(&self, scope: Scope) -> Option<Secret> {
        match scope {
            Scope::Database => Some(self.framing),
            Scope::Keyspace(keyspace) if self.context.keyspace == Some(keyspace) => self.own,
            Scope::Keyspace(keyspace) => self.state.lock().sections.get(&keyspace).copied(),
        }
    }

    fn tag(&self, key: Secret, scope: Scope, position: u64, associated: &[u8], content: &[u8]) -> [u8; 16] {
        let hash = Hash::new(key, Purpose::Tag).context(&self.context).scope(scope).word(position);
        to_bytes(hash.bytes(associated).bytes(content).finish())
    }

    fn stream(&self, key: Secret, scope: Scope, position: u64) -> Secret {
        Hash::new(key, Purpose::Stream).context(&self.context).scope(scope).word(position).finish()
    }

    fn refuse_unless_shared(&self, keyspace: KeyspaceId) -> Result<()> {
        match self.context.keyspace {
            None => Ok(()),
            Some(owner) => Err(Error::internal(format!(
                "keyspace {keyspace} has no section in a file that belongs to keyspace {owner}"
            ))),
        }
    }

    fn introduction_tag(&self, key: Secret, keyspace: KeyspaceId, wrapped: &[u8]) -> [u8; 16] {
        let hash = Hash::new(key, Purpose::Introduction).context(&self.context);
        to_bytes(hash.word(keyspace.0.into()).bytes(wrapped).finish())
    }
}

impl FileCipher for TestFile {
    fn tag_bytes(&self) -> usize {
        TAG_BYTES
    }

    fn introduce(&self, keyspace: KeyspaceId) -> Result<Vec<u8>> {
        self.refuse_unless_shared(keyspace)?;
        if self.allowed == Use::Read {
            return Err(Error::internal("a keyspace is introduced in a file that was reopened"));
        }
        let key = self.shared.keyspace_key(keyspace)?;
        let (section, salt) = (self.shared.random_secret(), self.shared.random_word());
        match self.state.lock().sections.entry(keyspace) {
            Slot::Occupied(_) => {
                return Err(Error::internal(format!("keyspace {keyspace} is introduced twice in one file")));
            }
            Slot::Vacant(slot) => slot.insert(section),
        };
        let mut out = salt.to_le_bytes().to_vec();
        out.extend_from_slice(&to_bytes(wrap(key, &self.context, salt, section)));
        out.extend_from_slice(&self.introduction_tag(key, keyspace, &out));
        Ok(out)
    }

    fn accept(&self, keyspace: KeyspaceId, introduction: &[u8]) -> Result<()> {
        self.refuse_unless_shared(keyspace)?;
        let key = self.shared.keyspace_key(keyspace)?;
        let damaged = || Error::corrupt(format!("the section key of keyspace {keyspace} is damaged"));
        let (wrapped, tag) = introduction.split_at_checked(24).ok_or_else(damaged)?;
        if *tag != self.introduction_tag(key, keyspace, wrapped) {
            return Err(damaged());
        }
        let mut reader = Reader::new(wrapped);
        let salt = reader.u64()?;
        let section = wrap(key, &self.context, salt, from_bytes(reader.array()?));
        if *self.state.lock().sections.entry(keyspace).or_insert(section) != section {
            return Err(Error::corrupt(format!("keyspace {keyspace} has two section keys in one file")));
        }
        Ok(())
    }

    fn seal(
        &self,
        scope: Scope,
        position: u64,
        associated: &[u8],
        data: &mut Vec<u8>,
        from: usize,
    ) -> Result<()> {
        if self.allowed == Use::Read {
            return Err(Error::internal(format!(
                "position {position} is sealed in a file that was reopened"
            )));
        }
        let Some(key) = self.key(scope) else {
            return Err(Error::internal(format!("{scope:?} is sealed without an introduction in this file")));
        };
        if from > data.len() {
            return Err(Error::internal(format!("a piece begins at {from}, after its {} bytes", data.len())));
        }
        if !self.state.lock().sealed.insert((scope, position)) {
            return Err(Error::internal(format!("position {position} of {scope:?} is sealed twice")));
        }
        apply_stream(self.stream(key, scope, position), &mut data[from..]);
        let tag = self.tag(key, scope, position, associated, &data[from..]);
        data.extend_from_slice(&tag);
        self.shared.seals.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn open(&self, scope: Scope, position: u64, associated: &[u8], sealed: &mut [u8]) -> Result<usize> {
        let Some(key) = self.key(scope) else {
            return Err(Error::corrupt(format!("{scope:?} has a section but no introduction in this file")));
        };
        let Some((content, tag)) = sealed.split_last_chunk_mut::<TAG_BYTES>() else {
            return Err(Error::corrupt(format!("the piece at position {position} is shorter than its tag")));
        };
        if *tag != self.tag(key, scope, position, associated, content) {
            // An AEAD leaves no plaintext of a piece that it refuses: nobody may go on with the buffer.
            sealed.fill(0);
            return Err(Error::corrupt(format!(
                "the piece at position {position} is not what was sealed there; run `pugdb verify`"
            )));
        }
        apply_stream(self.stream(key, scope, position), content);
        self.shared.opens.fetch_add(1, Ordering::Relaxed);
        Ok(content.len())
    }
}

/// Two words of key or of hash.
type Secret = [u64; 2];

fn to_bytes(secret: Secret) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&secret[0].to_le_bytes());
    bytes[8..].copy_from_slice(&secret[1].to_le_bytes());
    bytes
}

fn from_bytes(bytes: [u8; 16]) -> Secret {
    let word = |half: &[u8]| half.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
    [word(&bytes[..8]), word(&bytes[8..])]
}

/// Separates what is hashed for one end from what is hashed for another.
#[derive(Clone, Copy)]
enum Purpose {
    Root = 1,
    DatabaseKey,
    KeyspaceKey,
    Content,
    Wrap,
    Header,
    Introduction,
    Commitment,
    Checksum,
    Tag,
    Stream,
    Statement,
}

/// A keyed hash, eight bytes a step. Each step is a bijection of the state and of the word, so two inputs that differ
/// in one word never collide.
struct Hash {
    key: Secret,
    state: Secret,
}

const FACTOR_A: u64 = 0x9e37_79b9_7f4a_7c15;
const FACTOR_B: u64 = 0xd6e8_feb8_6659_fd93;

impl Hash {
    fn new(key: Secret, purpose: Purpose) -> Self {
        Self { key, state: key }.word(purpose as u64)
    }

    #[inline]
    fn step(&mut self, word: u64) {
        let [a, b] = &mut self.state;
        *a = (*a ^ word).wrapping_mul(FACTOR_A);
        *a ^= *a >> 32;
        *b = (b.rotate_left(29) ^ word).wrapping_mul(FACTOR_B);
        *b ^= *b >> 31;
    }

    fn word(mut self, word: u64) -> Self {
        self.step(word);
        self
    }

    /// The length goes first, so that neighbours cannot trade bytes.
    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.step(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.step(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.step(u64::from_le_bytes(word));
        }
        self
    }

    fn context(self, context: &FileContext) -> Self {
        let keyspace = context.keyspace.map_or(0, |keyspace| 1 << 32 | u64::from(keyspace.0));
        self.bytes(&context.database.0).bytes(&context.file.0).word(context.kind as u64).word(keyspace)
    }

    fn scope(self, scope: Scope) -> Self {
        self.word(match scope {
            Scope::Database => 0,
            Scope::Keyspace(keyspace) => 1 << 32 | u64::from(keyspace.0),
        })
    }

    fn finish(self) -> Secret {
        let [a, b] = self.state;
        [mix(a ^ self.key[1]) ^ b.rotate_left(17), mix(b ^ self.key[0]) ^ a.rotate_left(41)].map(mix)
    }
}

/// The finaliser of splitmix64.
#[inline]
fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Covers or uncovers `data`.
fn apply_stream(key: Secret, data: &mut [u8]) {
    let mut counter = key[0];
    let mut next = || {
        counter = counter.wrapping_add(FACTOR_A);
        mix(counter) ^ key[1]
    };
    let (words, rest) = data.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_le_bytes(*word) ^ next()).to_le_bytes();
    }
    let last = next().to_le_bytes();
    rest.iter_mut().zip(last).for_each(|(byte, cover)| *byte ^= cover);
}
