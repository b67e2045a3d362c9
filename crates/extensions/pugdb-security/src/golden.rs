//! What was written once is read for ever: bytes and texts in `tests/golden/`, opened as a later version will open them. They pin labels and
//! contexts of derivation, layouts and words. `UPDATE_EXPECT=1 cargo test -p pugdb-security golden` makes them anew, which only a new format may do.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pugdb_core::env::os::OsRandom;
use pugdb_core::env::{Env, Random};
use pugdb_core::seam::{Cipher, FileContext, FileKind, Scope};
use pugdb_core::{DatabaseId, ErrorKind, FileId, KeyspaceId, SealId, Timestamp};
use pugdb_sim::World;

use crate::audit::{
    Action, Actor, CHAIN_BEGIN, Checkpoint, ConsistencyProof, Count, Event, Frontier, Gather, InclusionProof,
    ObjectKind, Record, chain, consistency_spans, inclusion_spans, leaf, object,
};
use crate::derive::{Derivation, Purpose, tree_child};
use crate::provider::{hex, unhex};
use crate::rights::{Authenticator, Rights};
use crate::{
    Certificate, ErasedObject, GivenKey, Held, KeyFile, Passphrase, RootProvider, Secret, Vault, VaultCipher,
};

const DATABASE: DatabaseId = DatabaseId([5; 16]);
const KEYRING: &str = "KEYRING";
const KEY_FILE: &str = "root.key";
const PASSPHRASE: &str = "correct horse battery staple";

/// The same each time, and never the same twice.
struct Counted(AtomicU64);

impl Random for Counted {
    fn fill(&self, bytes: &mut [u8]) {
        for byte in bytes {
            let next = self.0.fetch_add(1, Ordering::Relaxed);
            *byte = blake3::hash(&next.to_le_bytes()).as_bytes()[0];
        }
    }
}

fn env(world: &World) -> Env {
    Env { random: Arc::new(Counted(AtomicU64::new(0))), ..world.env() }
}

fn is_updating() -> bool {
    std::env::var_os("UPDATE_EXPECT").is_some()
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// A golden text, made first if that is asked for.
fn golden(name: &str, make: impl FnOnce() -> String) -> String {
    if is_updating() {
        #[expect(clippy::disallowed_methods, reason = "rewrites a golden file on demand")]
        std::fs::write(path(name), make()).unwrap();
    }
    std::fs::read_to_string(path(name)).unwrap()
}

/// Names and bytes, a line each.
#[derive(Default)]
struct Bytes(BTreeMap<String, Vec<u8>>);

impl Bytes {
    fn put(&mut self, name: &str, bytes: impl Into<Vec<u8>>) {
        assert!(self.0.insert(name.to_owned(), bytes.into()).is_none(), "{name}");
    }

    fn text(&self) -> String {
        self.0.iter().fold(String::new(), |mut text, (name, bytes)| {
            writeln!(text, "{name} {}", hex(bytes)).unwrap();
            text
        })
    }

    fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let (name, digits) = line.rsplit_once(' ').unwrap();
            let mut bytes = vec![0; digits.len() / 2];
            unhex(digits, &mut bytes).unwrap();
            (name.to_owned(), bytes)
        };
        Self(text.lines().map(line).collect())
    }

    fn get(&self, name: &str) -> Vec<u8> {
        self.0.get(name).unwrap_or_else(|| panic!("there is no {name}")).clone()
    }
}

/// Every label, with a context.
#[test]
fn what_is_derived_is_what_always_was() {
    let purposes = [
        Purpose::KeyId,
        Purpose::File,
        Purpose::FileCommitment,
        Purpose::Section,
        Purpose::SectionCommitment,
        Purpose::Keyring,
        Purpose::KeyringCommitment,
        Purpose::Wrap,
        Purpose::WrapCommitment,
        Purpose::Part,
        Purpose::PartCommitment,
        Purpose::SubjectName,
        Purpose::SubjectLeaf,
        Purpose::KeyspaceName,
        Purpose::SubjectValue,
        Purpose::Statement,
        Purpose::AuditObject,
    ];
    let mut derived = Bytes::default();
    let derivation = Derivation::new(&Secret::copy(&[7; 32]), &[9; 32]);
    for purpose in purposes {
        derived.put(&format!("{purpose:?}"), derivation.public(purpose, b"context"));
    }
    for bit in [0, 1] {
        let mut node = [7; 32];
        tree_child(&mut node, bit);
        derived.put(&format!("child {bit}"), node);
    }
    derived.put("link", chain(DATABASE, &[3; 32], b"record"));
    derived.put("leaf", leaf(&[3; 32]));
    assert_eq!(golden("derived.txt", || derived.text()), derived.text());
}

fn file(kind: FileKind, keyspace: Option<KeyspaceId>) -> FileContext {
    FileContext { database: DATABASE, file: FileId([6; 16]), kind, keyspace }
}

const ONE: KeyspaceId = KeyspaceId(1);
const TWO: KeyspaceId = KeyspaceId(2);
const CONTENT: &[u8] = b"what was sealed";

fn root() -> Arc<GivenKey> {
    Arc::new(GivenKey::new(Secret::copy(&[1; 32])))
}

fn put_sealed(made: &mut Bytes, cipher: &VaultCipher) {
    let shared = file(FileKind::Log, None);
    let (header, keys) = cipher.create(&shared).unwrap();
    made.put("log header", header);
    made.put("log section", keys.introduce(ONE).unwrap());
    for (name, scope, position) in
        [("log piece", Scope::Database, 64), ("log section's piece", Scope::Keyspace(ONE), 128)]
    {
        let mut piece = CONTENT.to_vec();
        keys.seal(scope, position, b"about", &mut piece, 0).unwrap();
        made.put(name, piece);
    }
    let (header, keys) = cipher.create(&file(FileKind::Table, Some(ONE))).unwrap();
    made.put("table header", header);
    let mut piece = CONTENT.to_vec();
    keys.seal(Scope::Keyspace(ONE), 4096, b"about", &mut piece, 0).unwrap();
    made.put("table piece", piece);
}

/// A keyring with some of everything, and what it has sealed.
fn make_vault() -> String {
    let world = World::new(1);
    let env = env(&world);
    let adopted = crate::Adopted {
        database: DATABASE,
        next_keyspace: KeyspaceId(4),
        owners: [(KeyspaceId(3), TWO)].into(),
    };
    let vault = Vault::adopt(&env, Path::new(KEYRING), root(), adopted).unwrap();
    let cipher = VaultCipher::new(Arc::clone(&vault));
    let mut made = Bytes::default();
    put_sealed(&mut made, &cipher);
    let (ada, gone) = (vault.subject(b"ada").unwrap(), vault.subject(b"gone").unwrap());
    made.put("subject", ada.0.to_le_bytes());
    made.put("erased subject", gone.0.to_le_bytes());
    made.put("value", vault.seal_value(ONE, ada, b"key", CONTENT).unwrap());
    made.put("erased value", vault.seal_value(ONE, gone, b"key", CONTENT).unwrap());
    made.put("part", vault.seal_part(ONE, b"place", CONTENT).unwrap());
    made.put("erased part", vault.seal_part(TWO, b"place", CONTENT).unwrap());
    made.put("statement's tag", cipher.vouch(b"statement").unwrap());
    vault.hold_subject(b"held").unwrap();
    vault.hold_keyspace(ONE).unwrap();
    vault.erase_subjects(&[b"gone"]).unwrap();
    vault.begin_keyspace_erasure(TWO, KeyspaceId(4)).unwrap();
    vault.end_keyspace_erasure(TWO, KeyspaceId(4), "two").unwrap();
    vault.renew().unwrap();
    made.put("file", world.read_file(KEYRING).unwrap());
    let keyring = &vault.state.read().keyring;
    made.put("subject's digest", keyring.digest(Purpose::SubjectName, b"ada"));
    made.put("keyspace's digest", keyring.digest(Purpose::KeyspaceName, b"ada"));
    made.put("audit's digest", object(keyring, ObjectKind::Subject, b"ada").digest);
    made.put("signer", vault.signer());
    made.text()
}

#[test]
fn a_keyring_of_long_ago_opens_and_so_does_what_it_has_sealed() {
    let made = Bytes::parse(&golden("keyring.txt", make_vault));
    let world = World::new(2);
    world.write_file(KEYRING, &made.get("file")).unwrap();
    let vault = Vault::open_beside(&world.env(), Path::new(KEYRING), root()).unwrap();
    let cipher = VaultCipher::new(Arc::clone(&vault));
    let status = vault.status();
    assert_eq!((status.database, status.keyring_generation), (DATABASE, 7));
    assert_eq!(
        status.keyspaces.iter().map(|of| of.keyspace.0).collect::<Vec<_>>(),
        [1].into_iter().chain(4..17).collect::<Vec<_>>()
    );
    assert!(status.keyspaces.iter().all(|of| of.keys.len() == 2) && status.database_keys.len() == 2);
    let erased: Vec<_> = status.erased_keyspaces.iter().map(|(keyspace, _)| keyspace.0).collect();
    assert_eq!((erased, status.erased_subjects, vault.has_plain_past()), (vec![2, 3], 1, true));
    let subject = made.get("subject");
    let ada = SealId(u64::from_le_bytes(subject[..].try_into().unwrap()));
    let gone = SealId(u64::from_le_bytes(made.get("erased subject")[..].try_into().unwrap()));
    assert_eq!(vault.subject(b"ada").unwrap(), ada);
    assert_ne!(vault.subject(b"gone").unwrap(), gone);
    let held = vault.held();
    assert!(
        held.len() == 2 && matches!(held[0], Held::Subject(..)) && matches!(held[1], Held::Keyspace(ONE, _))
    );

    assert_eq!(vault.open_value(ONE, ada, b"key", &made.get("value")).unwrap(), CONTENT);
    let value = vault.open_value(ONE, gone, b"key", &made.get("erased value"));
    assert_eq!(value.unwrap_err().kind(), ErrorKind::Erased);
    assert_eq!(vault.open_part(ONE, b"place", &made.get("part")).unwrap(), CONTENT);
    let part = vault.open_part(TWO, b"place", &made.get("erased part"));
    assert_eq!(part.unwrap_err().kind(), ErrorKind::Erased);
    cipher.check(b"statement", &made.get("statement's tag")).unwrap();
    cipher.check(b"statemend", &made.get("statement's tag")).unwrap_err();

    let log = cipher.open(&file(FileKind::Log, None), &made.get("log header")).unwrap();
    log.accept(ONE, &made.get("log section")).unwrap();
    let table = cipher.open(&file(FileKind::Table, Some(ONE)), &made.get("table header")).unwrap();
    for (keys, name, scope, position) in [
        (&log, "log piece", Scope::Database, 64),
        (&log, "log section's piece", Scope::Keyspace(ONE), 128),
        (&table, "table piece", Scope::Keyspace(ONE), 4096),
    ] {
        let mut piece = made.get(name);
        let length = keys.open(scope, position, b"about", &mut piece).unwrap();
        assert_eq!(&piece[..length], CONTENT, "{name}");
    }
    let keyring = &vault.state.read().keyring;
    assert_eq!(keyring.digest(Purpose::SubjectName, b"ada")[..], made.get("subject's digest"));
    assert_eq!(keyring.digest(Purpose::KeyspaceName, b"ada")[..], made.get("keyspace's digest"));
    assert_eq!(object(keyring, ObjectKind::Subject, b"ada").digest[..], made.get("audit's digest"));
    assert_eq!(vault.signer()[..], made.get("signer"));
}

#[test]
fn what_each_kind_of_root_key_has_wrapped_is_unwrapped() {
    let epoch = Secret::copy(&[3; 32]);
    let passphrase = Passphrase::new(PASSPHRASE).unwrap();
    let make = || {
        let world = World::new(1);
        let env = env(&world);
        let mut made = Bytes::default();
        made.put("key file's", KeyFile::new(KEY_FILE).wrap(&env, DATABASE, &epoch).unwrap());
        made.put("key file", world.read_file(KEY_FILE).unwrap());
        made.put("given", root().wrap(&env, DATABASE, &epoch).unwrap());
        made.put("passphrase", passphrase.wrap(&env, DATABASE, &epoch).unwrap());
        made.text()
    };
    let made = Bytes::parse(&golden("wrapped.txt", make));
    let world = World::new(2);
    let env = world.env();
    let private = env.fs.create_private(Path::new(KEY_FILE)).unwrap();
    private.write_at(&made.get("key file"), 0).unwrap();
    let providers: [(&dyn RootProvider, &str, u8); 3] =
        [(&KeyFile::new(KEY_FILE), "key file's", 1), (&*root(), "given", 2), (&passphrase, "passphrase", 3)];
    for (provider, name, kind) in providers {
        let wrapped = made.get(name);
        assert_eq!(wrapped[0], kind, "{name}");
        assert!(provider.unwrap(&env, DATABASE, &wrapped).unwrap() == epoch, "{name}");
        let other = provider.unwrap(&env, DatabaseId([4; 16]), &wrapped);
        assert_eq!(other.unwrap_err().kind(), ErrorKind::Denied, "{name}");
    }
}

#[test]
fn a_certificate_of_long_ago_is_still_signed() {
    let make = || {
        let erased = vec![ErasedObject::Subject([7; 32]), ErasedObject::Keyspace(KeyspaceId(3), [9; 32])];
        let mut certificate = Certificate::unsigned(DATABASE, erased, Timestamp(1_764_250_000_123));
        (certificate.keyring_before, certificate.keyring_generation) = (11, 12);
        "the key file /etc/orders.key".clone_into(&mut certificate.provider);
        certificate.is_root_key_destroyed = true;
        certificate.sign(&Secret::copy(&[8; 32])).to_string()
    };
    let text = golden("certificate.txt", make);
    let read = Certificate::parse(&text).unwrap();
    assert_eq!((read.database, read.at.0), (DATABASE, 1_764_250_000_123));
    assert_eq!((read.keyring_before, read.keyring_generation), (11, 12));
    assert_eq!(read.erased, [ErasedObject::Subject([7; 32]), ErasedObject::Keyspace(KeyspaceId(3), [9; 32])]);
    assert!(read.is_root_key_destroyed && read.provider == "the key file /etc/orders.key");
    assert_eq!(read.to_string(), text);
}

/// Five records, each with its link.
fn records() -> Vec<(Record, [u8; 32])> {
    let mut last = CHAIN_BEGIN;
    let of = |number: u64| {
        let event = Event::begun(Action::Rights).count(Count::Keyring, number).failed(ErrorKind::Denied);
        let record =
            Record { number, at: Timestamp(number * 1000), actor: Actor::new("ada", "a \"test\"\n"), event };
        last = chain(DATABASE, &last, &record.encode());
        (record, last)
    };
    (1..=5).map(of).collect()
}

fn checkpoint(size: usize) -> String {
    let (records, mut tree) = (records(), Frontier::default());
    records[..size].iter().for_each(|(_, link)| tree.push(leaf(link)));
    let state = (size as u64, tree.root(), records[size - 1].1);
    Checkpoint::new(DATABASE, state, Timestamp(1_764_250_000_123), Some(&Secret::copy(&[8; 32]))).to_string()
}

fn path_of(spans: &[crate::audit::Span]) -> Vec<[u8; 32]> {
    let mut gather = Gather::new(spans, &Frontier::default()).unwrap();
    records().iter().zip(0..).for_each(|((_, link), at)| gather.push(at, leaf(link)));
    gather.finish().unwrap()
}

#[test]
fn checkpoints_and_proofs_of_long_ago_still_hold() {
    let (first, second) =
        (golden("checkpoint-3.txt", || checkpoint(3)), golden("checkpoint-5.txt", || checkpoint(5)));
    let inclusion = golden("inclusion.txt", || {
        let records = records();
        let (record, previous) = (records[2].0.clone(), records[1].1);
        InclusionProof {
            database: DATABASE,
            record,
            previous,
            size: 5,
            path: path_of(&inclusion_spans(2, 5)),
        }
        .to_string()
    });
    let consistency = golden("consistency.txt", || {
        ConsistencyProof { database: DATABASE, sizes: (3, 5), path: path_of(&consistency_spans(3, 5)) }
            .to_string()
    });
    let (first, second) = (Checkpoint::parse(&first).unwrap(), Checkpoint::parse(&second).unwrap());
    assert_eq!(first.signer, second.signer);
    let proof = InclusionProof::parse(&inclusion).unwrap();
    proof.check(&second).unwrap();
    assert_eq!(
        (proof.record.event.action, proof.record.event.reason.unwrap().kind()),
        (Action::Rights, Some(ErrorKind::Denied))
    );
    ConsistencyProof::parse(&consistency).unwrap().check(&first, &second).unwrap();
}

/// A line that is not exactly what would be written is damage: so the words and their order are the format.
#[test]
fn users_and_roles_of_long_ago_are_read() {
    let make = || {
        let passwords = Authenticator::new(Arc::new(Counted(AtomicU64::new(0))));
        let mut rights = Rights::default();
        let words = "on skip-sanitize-payload >secret #8c6976e5b5410415bde908bd4dee15dfb167a9c873fc4bb8a81f6f2ab448a918 \
                     cert:CN=ada role:reader ~a* %R~b* %W~c &d keyspace:db0 +@all -@write +set -config|set (~e +get)";
        for word in words.replace("(~e +get)", "(~e\0+get)").split(' ') {
            rights
                .user_mut("ada")
                .unwrap()
                .apply(word.replace('\0', " ").as_bytes(), &passwords, &|_| true)
                .unwrap();
        }
        rights.user_mut("eve").unwrap().apply(b"nopass", &passwords, &|_| true).unwrap();
        rights.role_mut("reader").unwrap().apply(b"+mget", &|_| true).unwrap();
        let users = rights.users().map(|user| (format!("user {}", user.name()), user.to_line()));
        let roles = rights.roles().map(|(name, role)| (format!("role {name}"), role.to_line()));
        let lines =
            users.chain(roles).map(|(who, line)| format!("{who} {}\n", String::from_utf8(line).unwrap()));
        lines.collect()
    };
    let text = golden("rights.txt", make);
    let passwords = Authenticator::new(Arc::new(OsRandom));
    let mut rights = Rights::default();
    for line in text.lines() {
        let [kind, name, line] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        match kind {
            "user" => rights.add_written_user(name.as_bytes(), line.as_bytes(), &passwords).unwrap(),
            _ => rights.add_written_role(name.as_bytes(), line.as_bytes()).unwrap(),
        }
    }
    assert_eq!((rights.users().count(), rights.roles().count()), (3, 1));
    let ada = rights.user("ada").map(|user| &**user);
    assert!(passwords.accepts(ada, b"secret") && passwords.accepts(ada, b"admin"));
    assert!(ada.unwrap().scram_verifiers().count() == 1 && rights.user_of_certificate("CN=ada").is_some());
}
