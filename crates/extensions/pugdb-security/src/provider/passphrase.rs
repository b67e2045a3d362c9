//! A root key that a person knows: Argon2id (RFC 9106) makes it of a passphrase.

use argon2::{Argon2, Params, Version};
use pugdb_core::coding::Reader;
use pugdb_core::env::Env;
use pugdb_core::{DatabaseId, Error, Result};
use zeroize::Zeroizing;

use super::{Kind, RootProvider};
use crate::secret::{KEY_BYTES, Secret};

const LABEL: &[u8] = b"passphrase";
const SALT_BYTES: usize = 16;
/// Shorter ones are tried through, whatever each try costs.
const PASSPHRASE_CHARS_MIN: usize = 12;
/// What is derived from: none of any use is longer.
const PASSPHRASE_BYTES_MAX: usize = 4096;

/// What a try costs. It stands in the keyring, so that it can be raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl Cost {
    /// The second of the two choices of RFC 9106, section 4, with one lane: a database is opened by one thread.
    const OURS: Self = Self { memory_kib: 64 << 10, passes: 3, lanes: 1 };
    /// More than this a keyring may not ask for: it is read before anybody knows who has written it.
    const MAX: Self = Self { memory_kib: 1 << 20, passes: 64, lanes: 16 };

    fn is_allowed(self) -> bool {
        (8..=Self::MAX.memory_kib).contains(&self.memory_kib)
            && (1..=Self::MAX.passes).contains(&self.passes)
            && (1..=Self::MAX.lanes).contains(&self.lanes)
    }
}

/// A passphrase. Who knows it and has the data directory can read the database; each guess costs 64 MiB and a tenth of a second.
///
/// ```
/// use pugdb_core::env::Env;
/// use pugdb_security::{Passphrase, Vault};
///
/// # let dir = tempfile::tempdir().unwrap();
/// let keyring = dir.path().join("KEYRING");
/// let provider = std::sync::Arc::new(Passphrase::new("correct horse battery staple")?);
/// let database = Vault::create(&Env::os(), &keyring, provider.clone())?.database();
/// assert_eq!(Vault::open(&Env::os(), &keyring, provider)?.database(), database);
///
/// let wrong = std::sync::Arc::new(Passphrase::new("incorrect horse battery")?);
/// let error = Vault::open(&Env::os(), &keyring, wrong).unwrap_err();
/// assert_eq!(error.kind(), pugdb_core::ErrorKind::Denied);
/// assert!(Passphrase::new("too short").is_err());
/// # Ok::<(), pugdb_core::Error>(())
/// ```
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// One of 12 characters and more: several words are easier to remember and harder to guess than one with digits in it.
    ///
    /// # Errors
    /// `Invalid` when it is shorter, or longer than 4,096 bytes.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = Zeroizing::new(text.into());
        if text.chars().count() < PASSPHRASE_CHARS_MIN || text.len() > PASSPHRASE_BYTES_MAX {
            return Err(Error::invalid(format!(
                "a passphrase has {PASSPHRASE_CHARS_MIN} characters at least, and {PASSPHRASE_BYTES_MAX} bytes at most: take some words"
            )));
        }
        Ok(Self(text))
    }

    fn root(&self, cost: Cost, salt: &[u8; SALT_BYTES]) -> Result<Secret> {
        let Cost { memory_kib, passes, lanes } = cost;
        let params = Params::new(memory_kib, passes, lanes, Some(KEY_BYTES)).map_err(|_| {
            Error::corrupt("the keyring asks for something that Argon2 cannot do; put back a copy of it")
        })?;
        let argon = Argon2::new(argon2::Algorithm::Argon2id, Version::V0x13, params);
        let mut outcome = Ok(());
        let root = Secret::fill(|out| outcome = argon.hash_password_into(self.0.as_bytes(), salt, out));
        outcome
            .map(|()| root)
            .map_err(|_| Error::internal("Argon2 refuses what it was given; please report it"))
    }
}

/// It is not shown.
impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase")
    }
}

impl RootProvider for Passphrase {
    fn describe(&self) -> String {
        "a passphrase that somebody knows".to_owned()
    }

    fn protects(&self) -> &'static str {
        "the data on a disk, a machine or a copy that somebody else has, as far as the passphrase cannot be guessed: each guess costs 64 MiB of \
         memory and a tenth of a second. It does not protect the data from who can read the process's memory, or sees the passphrase being typed. A \
         rotation does not make anybody forget it, so what an older copy of the keyring holds can be read with the passphrase of that day."
    }

    fn destroys(&self) -> bool {
        false
    }

    fn wrap(&self, env: &Env, database: DatabaseId, epoch: &Secret) -> Result<Vec<u8>> {
        let cost = Cost::OURS;
        let mut salt = [0; SALT_BYTES];
        env.random.fill(&mut salt);
        let mut out = vec![Kind::Passphrase as u8];
        for number in [cost.memory_kib, cost.passes, cost.lanes] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&salt);
        out.extend_from_slice(&super::wrap(env, &self.root(cost, &salt)?, database, LABEL, epoch));
        Ok(out)
    }

    fn unwrap(&self, _: &Env, database: DatabaseId, wrapped: &[u8]) -> Result<Secret> {
        let mut reader = Reader::new(Kind::Passphrase.of(wrapped)?);
        let cost = Cost { memory_kib: reader.u32()?, passes: reader.u32()?, lanes: reader.u32()? };
        let salt = reader.array()?;
        if !cost.is_allowed() {
            return Err(Error::corrupt(
                "the keyring asks for more work than any passphrase needs; put back a copy of it",
            ));
        }
        let root = self.root(cost, &salt)?;
        super::unwrap(&root, database, LABEL, reader.rest())?
            .ok_or_else(|| Error::denied("wrong key: it is not the passphrase that sealed the keyring"))
    }

    fn settle(&self, _: &Env, _: DatabaseId, _: &[u8]) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use pugdb_core::ErrorKind;
    use pugdb_core::env::os::OsRandom;

    use super::*;

    fn secret(text: &str) -> Passphrase {
        Passphrase::new(text).unwrap()
    }

    #[test]
    fn argon2id_gives_a_known_answer() {
        let known = "a3ec170b6d5c2ae9700ea7d2f07aa22941163c9d3844876f74f65cec1a757f9e";
        let cost = Cost { memory_kib: 64, passes: 1, lanes: 1 };
        let root = |text: &str, salt, cost| secret(text).root(cost, salt).unwrap();
        let one = root("correct horse battery", b"a salt of 16 by.", cost);
        assert_eq!(super::super::hex(one.expose()), known, "as the reference implementation has it");
        assert!(one != root("correct horse battery", b"another salt 16.", cost));
        assert!(one != root("Correct horse battery", b"a salt of 16 by.", cost));
        let dearer = Cost { passes: 2, ..cost };
        assert!(one != root("correct horse battery", b"a salt of 16 by.", dearer));
    }

    #[test]
    fn a_keyring_that_asks_for_too_much_work_is_refused_before_any_is_done() {
        let (env, database) = (Env::os(), DatabaseId([1; 16]));
        let wrapped =
            secret("correct horse battery").wrap(&env, database, &Secret::random(&OsRandom)).unwrap();
        for (at, number) in [(1, u32::MAX), (1, 0), (5, 0), (5, u32::MAX), (9, 0), (9, 1 << 24)] {
            let mut hostile = wrapped.clone();
            hostile[at..at + 4].copy_from_slice(&u32::to_le_bytes(number));
            let error = secret("correct horse battery").unwrap(&env, database, &hostile).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        }
        for length in 0..wrapped.len() {
            assert!(
                secret("correct horse battery").unwrap(&env, database, &wrapped[..length]).is_err(),
                "{length}"
            );
        }
        assert_eq!(format!("{:?}", secret("correct horse battery")), "Passphrase");
    }
}
