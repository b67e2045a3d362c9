//! Root keys in a keyring that is a map.

use std::collections::BTreeMap;

use pugdb_core::ErrorKind;

use super::*;

#[derive(Default)]
struct Map {
    entries: BTreeMap<(DatabaseId, KeyName), Vec<u8>>,
    /// It says that it deletes, and does not.
    keeps: bool,
}

impl Entries for Map {
    fn names(&mut self, database: DatabaseId) -> Result<Vec<KeyName>> {
        Ok(self.entries.keys().filter(|key| key.0 == database).map(|key| key.1).collect())
    }

    fn read(&mut self, database: DatabaseId, name: KeyName) -> Result<Zeroizing<Vec<u8>>> {
        let found = self.entries.get(&(database, name)).cloned();
        found.map(Zeroizing::new).ok_or_else(|| Error::not_found("it is not there"))
    }

    fn write(&mut self, database: DatabaseId, name: KeyName, secret: &[u8]) -> Result<()> {
        self.entries.insert((database, name), secret.to_vec());
        Ok(())
    }

    fn remove(&mut self, database: DatabaseId, name: KeyName) -> Result<()> {
        if !self.keeps {
            self.entries.remove(&(database, name));
        }
        Ok(())
    }
}

const DATABASE: DatabaseId = DatabaseId([1; 16]);
const KIND: Kind = Kind::OsKeyring;

fn epoch() -> Secret {
    Secret::copy(&[5; 32])
}

fn wrap(keyring: &mut Secrets<Map>) -> Vec<u8> {
    kept::wrap(keyring, &Env::os(), KIND, DATABASE, &epoch()).unwrap()
}

fn unwrap(keyring: &mut Secrets<Map>, wrapped: &[u8]) -> Result<Secret> {
    kept::unwrap(keyring, "the keyring", KIND, DATABASE, wrapped)
}

#[test]
fn each_root_key_is_an_entry_of_its_own_and_the_old_one_goes() {
    let mut keyring = Secrets(Map::default());
    let (old, new) = (wrap(&mut keyring), wrap(&mut keyring));
    assert!(unwrap(&mut keyring, &old).unwrap() == epoch() && unwrap(&mut keyring, &new).unwrap() == epoch());
    let secrets: Vec<_> = keyring.0.entries.values().collect();
    assert!(secrets[0] != secrets[1] && secrets.iter().all(|secret| secret.len() == 64));
    kept::settle(&mut keyring, "the keyring", KIND, DATABASE, &new).unwrap();
    assert_eq!(keyring.0.entries.len(), 1);
    let error = unwrap(&mut keyring, &old).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(unwrap(&mut keyring, &new).unwrap() == epoch());
}

#[test]
fn a_keyring_that_only_says_it_deletes_is_not_believed() {
    let mut keyring = Secrets(Map { keeps: true, ..Map::default() });
    let (_, new) = (wrap(&mut keyring), wrap(&mut keyring));
    let error = kept::settle(&mut keyring, "the keyring", KIND, DATABASE, &new).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("still has it"), "{error}");
}

#[test]
fn an_entry_that_was_changed_and_one_of_another_key_are_told_apart_and_not_shown() {
    let mut keyring = Secrets(Map::default());
    let wrapped = wrap(&mut keyring);
    let write = |keyring: &mut Secrets<Map>, text: &str| {
        let key = *keyring.0.entries.keys().next().unwrap();
        keyring.0.entries.insert(key, text.as_bytes().to_vec());
    };
    let whole = String::from_utf8(keyring.0.entries.values().next().unwrap().clone()).unwrap();
    for (text, kind) in [
        ("", ErrorKind::Corrupt),
        ("7777", ErrorKind::Corrupt),
        (&"7z".repeat(32), ErrorKind::Corrupt),
        (&"77".repeat(33), ErrorKind::Corrupt),
        (&"77".repeat(32), ErrorKind::Denied),
    ] {
        write(&mut keyring, text);
        let error = unwrap(&mut keyring, &wrapped).map(drop).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(!error.to_string().contains("77"), "{error}");
    }
    // Some programs put a line's end behind what was pasted.
    write(&mut keyring, &format!("{whole}\n"));
    assert!(unwrap(&mut keyring, &wrapped).unwrap() == epoch());
}

#[test]
fn a_wrapped_key_that_was_changed_anywhere_is_refused() {
    let mut keyring = Secrets(Map::default());
    let wrapped = wrap(&mut keyring);
    for bit in 0..wrapped.len() * 8 {
        let mut changed = wrapped.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let kind = unwrap(&mut keyring, &changed).map(drop).unwrap_err().kind();
        assert!([ErrorKind::Denied, ErrorKind::Corrupt].contains(&kind), "bit {bit}: {kind:?}");
    }
}

#[test]
fn what_entries_are_called_after_is_short_and_plain() {
    for service in ["pugdb", "my orders", &"a".repeat(128)] {
        assert!(OsKeyring::new(service).is_ok());
    }
    for service in ["", "a\nb", "a\0", &"a".repeat(129)] {
        assert_eq!(OsKeyring::new(service).unwrap_err().kind(), ErrorKind::Invalid);
    }
}
