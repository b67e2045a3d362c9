//! What an erasure leaves in its place: a statement that is signed.

use std::fmt;

use pugdb_core::{DatabaseId, Error, KeyspaceId, Result, Timestamp};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use crate::keyring::NameDigest;
use crate::newer;
use crate::provider::{hex, unhex};
use crate::secret::Secret;

const TITLE: &str = "PugDB erasure certificate 1";
pub(crate) const PUBLIC_KEY_BYTES: usize = 32;
pub(crate) const SIGNATURE_BYTES: usize = 64;

/// Something that was erased. Names stand there as keyed digests: who has the keyring can tell whether a name is meant, and nobody else can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErasedObject {
    /// All values of a subject.
    Subject(NameDigest),
    /// A keyspace, and what its name was.
    Keyspace(KeyspaceId, NameDigest),
}

/// States that keys were destroyed: which, when, and what could still open what they had sealed. Signed with a key of the database's keyring
/// (Ed25519, RFC 8032), so that it says who has made it, and that nothing in it was changed.
///
/// Its text is for people, and is what is signed: a line a fact, the signature last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The database.
    pub database: DatabaseId,
    /// What was erased.
    pub erased: Vec<ErasedObject>,
    /// When.
    pub at: Timestamp,
    /// The keyring's generation that still had the keys.
    pub keyring_before: u64,
    /// The first one without them.
    pub keyring_generation: u64,
    /// Where the root key is.
    pub provider: String,
    /// True when its provider has destroyed the root key that opens older copies of the keyring.
    pub is_root_key_destroyed: bool,
    /// The public key of who signs.
    pub signer: [u8; PUBLIC_KEY_BYTES],
    /// What was read: the words may be those of another version.
    proves: Option<String>,
    signature: [u8; SIGNATURE_BYTES],
}

/// The public half of the key that signs a database's certificates.
pub(crate) fn signer(seed: &Secret) -> [u8; PUBLIC_KEY_BYTES] {
    let pair = key_pair(seed);
    pair.public_key().as_ref().try_into().expect("an Ed25519 key has 32 bytes")
}

pub(crate) fn key_pair(seed: &Secret) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(seed.expose()).expect("any 32 bytes are a seed")
}

impl Certificate {
    pub(crate) fn sign(mut self, seed: &Secret) -> Self {
        let pair = key_pair(seed);
        self.signer = signer(seed);
        let words = self.meaning().to_owned();
        self.proves.get_or_insert(words);
        self.signature = pair
            .sign(self.statement().as_bytes())
            .as_ref()
            .try_into()
            .expect("an Ed25519 signature has 64 bytes");
        self
    }

    /// One that [`sign`](Self::sign) completes.
    pub(crate) fn unsigned(database: DatabaseId, erased: Vec<ErasedObject>, at: Timestamp) -> Self {
        Self {
            database,
            erased,
            at,
            keyring_before: 0,
            keyring_generation: 0,
            provider: String::new(),
            is_root_key_destroyed: false,
            signer: [0; PUBLIC_KEY_BYTES],
            proves: None,
            signature: [0; SIGNATURE_BYTES],
        }
    }

    /// Everything that is signed.
    fn statement(&self) -> String {
        let erased = self.erased.iter().map(|object| match object {
            ErasedObject::Subject(digest) => format!("erased subject {}", hex(digest)),
            ErasedObject::Keyspace(id, digest) => format!("erased keyspace {id} {}", hex(digest)),
        });
        let mut lines = vec![TITLE.to_owned(), format!("database {}", hex(&self.database.0))];
        lines.extend(erased);
        lines.extend([
            format!("at {} {}", self.at.0, self.at.utc()),
            format!("keyring before {} after {}", self.keyring_before, self.keyring_generation),
            format!("root key {}", one_line(&self.provider)),
            format!("old root key {}", if self.is_root_key_destroyed { "destroyed" } else { "kept" }),
            format!("proves {}", self.proves()),
            format!("signer {}\n", hex(&self.signer)),
        ]);
        lines.join("\n")
    }

    /// What it proves, and what it does not, in the words of the version that has signed it.
    pub fn proves(&self) -> &str {
        self.proves.as_deref().unwrap_or_else(|| self.meaning())
    }

    fn meaning(&self) -> &'static str {
        if self.is_root_key_destroyed {
            "The keys of what is named above were taken out of the keyring, and the root key that could open older copies of the keyring \
             was destroyed where it is kept: no copy of the data can be read in these parts, however old. That nobody has copied the old \
             root key together with an older keyring, or a key out of a running process, cannot be proved."
        } else {
            "The keys of what is named above were taken out of the keyring. The root key cannot be destroyed by its provider: whoever has an \
             older copy of the keyring and that root key can read older copies of the data until one of the two is gone."
        }
    }

    /// Reads a certificate, and finds that it is as it was signed. Whose it is, says [`signer`](Self::signer).
    ///
    /// # Errors
    /// `Invalid` when it is no certificate, `Unsupported` when it is one of a newer version, `Corrupt` when it is not what was signed.
    pub fn parse(text: &str) -> Result<Self> {
        if is_of_newer(text, TITLE) {
            return Err(newer("the certificate"));
        }
        let certificate = Self::read(text).ok_or_else(|| Error::invalid("this is no erasure certificate"))?;
        let changed = || Error::corrupt("the certificate was changed: it is not what was signed");
        // What was read is written again, but for what it says in words: a line that says the same in another way is none of ours.
        let statement = signed_part(text).filter(|_| certificate.to_string() == text).ok_or_else(changed)?;
        let key = UnparsedPublicKey::new(&ED25519, certificate.signer);
        key.verify(statement.as_bytes(), &certificate.signature).map_err(|_| changed())?;
        Ok(certificate)
    }

    fn read(text: &str) -> Option<Self> {
        let mut lines = text.lines().peekable();
        (lines.next()? == TITLE).then_some(())?;
        let mut database = DatabaseId([0; 16]);
        unhex(lines.next()?.strip_prefix("database ")?, &mut database.0)?;
        let mut erased = Vec::new();
        while let Some(object) = lines.peek()?.strip_prefix("erased ") {
            lines.next();
            let (kind, rest) = object.split_once(' ')?;
            let mut digest = [0; 32];
            erased.push(match kind {
                "subject" => {
                    unhex(rest, &mut digest)?;
                    ErasedObject::Subject(digest)
                }
                "keyspace" => {
                    let (id, rest) = rest.split_once(' ')?;
                    unhex(rest, &mut digest)?;
                    ErasedObject::Keyspace(KeyspaceId(id.parse().ok()?), digest)
                }
                _ => return None,
            });
        }
        let (at, _) = lines.next()?.strip_prefix("at ")?.split_once(' ')?;
        let (before, after) = lines.next()?.strip_prefix("keyring before ")?.split_once(" after ")?;
        let provider = lines.next()?.strip_prefix("root key ")?.to_owned();
        let is_root_key_destroyed = lines.next()? == "old root key destroyed";
        let proves = lines.next()?.strip_prefix("proves ").filter(|words| one_line(words) == **words)?;
        let mut certificate = Self {
            proves: Some(proves.to_owned()),
            keyring_before: before.parse().ok()?,
            keyring_generation: after.parse().ok()?,
            provider,
            is_root_key_destroyed,
            ..Self::unsigned(database, erased, Timestamp(at.parse().ok()?))
        };
        unhex(lines.next()?.strip_prefix("signer ")?, &mut certificate.signer)?;
        unhex(lines.next()?.strip_prefix("signature ")?, &mut certificate.signature)?;
        lines.next().is_none().then_some(certificate)
    }
}

/// What of a text is signed: all before its signature.
pub(crate) fn signed_part(text: &str) -> Option<&str> {
    text.rfind("\nsignature ").map(|at| &text[..=at])
}

/// Whether a text begins as ours of this kind do, but for the number at the end of its title.
pub(crate) fn is_of_newer(text: &str, title: &str) -> bool {
    let (kind, _) = title.rsplit_once(' ').expect("a title ends with a number");
    let number = text.lines().next().and_then(|line| line.strip_prefix(kind)?.strip_prefix(' '));
    number.is_some_and(|number| {
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        is_number && !number.starts_with('0') && !title.ends_with(&format!(" {number}"))
    })
}

/// A provider's words, in one line.
fn one_line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// The whole certificate, as [`Certificate::parse`] reads it.
impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}signature {}", self.statement(), hex(&self.signature))
    }
}

#[cfg(test)]
mod tests {
    use pugdb_core::ErrorKind;
    use pugdb_core::env::os::OsRandom;

    use super::*;

    fn certificate() -> (Certificate, Secret) {
        let seed = Secret::random(&OsRandom);
        let erased = vec![ErasedObject::Subject([7; 32]), ErasedObject::Keyspace(KeyspaceId(3), [9; 32])];
        let certificate = Certificate {
            keyring_before: 11,
            keyring_generation: 12,
            provider: "the key file\n/etc/orders.key".to_owned(),
            is_root_key_destroyed: true,
            ..Certificate::unsigned(DatabaseId([5; 16]), erased, Timestamp(1_764_250_000_123))
        };
        (certificate.sign(&seed), seed)
    }

    #[test]
    fn a_certificate_is_read_as_it_was_signed_and_says_whose_it_is() {
        let (certificate, seed) = certificate();
        let text = certificate.to_string();
        let read = Certificate::parse(&text).unwrap();
        assert_eq!(read, Certificate { provider: "the key file /etc/orders.key".to_owned(), ..certificate });
        assert_eq!(read.to_string(), text);
        assert_eq!(read.signer, signer(&seed));
        assert!(
            text.contains("at 1764250000123 2025-11-27T13:26:40.123Z\n") && text.ends_with('\n'),
            "{text}"
        );
    }

    /// The sentences are written for people, and will be written better: what was signed with the old ones stays signed.
    #[test]
    fn a_certificate_with_other_words_is_as_good_and_says_what_was_signed() {
        let (mut certificate, seed) = certificate();
        certificate.proves = Some("What is named above is gone.".to_owned());
        let text = certificate.sign(&seed).to_string();
        let read = Certificate::parse(&text).unwrap();
        assert_eq!(read.proves(), "What is named above is gone.");
        assert_eq!(read.to_string(), text);
        let changed = text.replace("is gone", "is here");
        assert_eq!(Certificate::parse(&changed).unwrap_err().kind(), ErrorKind::Corrupt);
        let shouted = text.replace("\nsigner ", "\tsigner ");
        assert_eq!(Certificate::parse(&shouted).unwrap_err().kind(), ErrorKind::Invalid);
        for (number, kind) in
            [("2", ErrorKind::Unsupported), ("10", ErrorKind::Unsupported), ("x", ErrorKind::Invalid)]
        {
            let newer = text.replace("certificate 1\n", &format!("certificate {number}\n"));
            assert_eq!(Certificate::parse(&newer).unwrap_err().kind(), kind, "{number}");
        }
    }

    #[test]
    fn each_byte_of_a_certificate_counts() {
        let (certificate, _) = certificate();
        let text = certificate.to_string();
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            let error = Certificate::parse(&changed).unwrap_err();
            assert!(
                matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Invalid | ErrorKind::Unsupported),
                "{at}"
            );
            assert!(Certificate::parse(&text[..at]).is_err());
        }
        assert!(Certificate::parse(&format!("{text} ")).is_err());
        assert!(Certificate::parse(&text.replace('\n', "\r\n")).is_err());
        // One that somebody else signs is his.
        let forged = certificate.clone().sign(&Secret::random(&OsRandom));
        assert_ne!(Certificate::parse(&forged.to_string()).unwrap().signer, certificate.signer);
    }
}
