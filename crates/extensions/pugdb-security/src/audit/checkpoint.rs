//! A checkpoint: how long the log is and what its tree's root is, signed. Kept in a second place, it shows what a chain alone cannot.

use std::fmt;

use pugdb_core::{DatabaseId, Error, Result, Timestamp};
use ring::signature::{ED25519, UnparsedPublicKey};

use super::chain::ChainHash;
use super::merkle::TreeHash;
use crate::certificate::{PUBLIC_KEY_BYTES, SIGNATURE_BYTES, is_of_newer, key_pair, signer};
use crate::newer;
use crate::provider::{hex, unhex};
use crate::secret::Secret;

/// The first line of what is signed: no statement of another kind begins with it.
pub(crate) const TITLE: &str = "PugDB audit checkpoint 1";
/// No checkpoint is longer.
const TEXT_BYTES_MAX: usize = 1024;

/// States that the audit log of a database had so many records with this root at this time. Signed as the certificates of its erasures are (Ed25519).
/// A database without keys cannot sign: its checkpoints say so, and prove nothing to who does not trust the place where they were kept.
///
/// Its text is for people, and is what is signed: a line a fact, the signature last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The database.
    pub database: DatabaseId,
    /// How many records there are.
    pub size: u64,
    /// The root of the tree over them.
    pub root: TreeHash,
    /// The chain's hash of the last one.
    pub last: ChainHash,
    /// When.
    pub at: Timestamp,
    /// The public key of who signs, if somebody does.
    pub signer: Option<[u8; PUBLIC_KEY_BYTES]>,
    signature: Option<[u8; SIGNATURE_BYTES]>,
}

impl Checkpoint {
    /// A statement, signed where there is a key.
    pub(crate) fn new(
        database: DatabaseId,
        (size, root, last): (u64, TreeHash, ChainHash),
        at: Timestamp,
        seed: Option<&Secret>,
    ) -> Self {
        let mut made = Self { database, size, root, last, at, signer: seed.map(signer), signature: None };
        made.signature = seed.map(|seed| {
            let signed = key_pair(seed).sign(made.statement().as_bytes());
            signed.as_ref().try_into().expect("an Ed25519 signature has 64 bytes")
        });
        made
    }

    /// Everything that is signed.
    fn statement(&self) -> String {
        let signer = self.signer.map_or_else(|| "none".to_owned(), |key| hex(&key));
        format!(
            "{TITLE}\ndatabase {}\nsize {}\nroot {}\nlast {}\nat {} {}\nsigner {signer}\n",
            hex(&self.database.0),
            self.size,
            hex(&self.root),
            hex(&self.last),
            self.at.0,
            self.at.utc(),
        )
    }

    /// Reads a checkpoint, and finds that it is as it was signed. Whose it is, says [`signer`](Self::signer).
    ///
    /// # Errors
    /// `Invalid` when it is no checkpoint, `Unsupported` when it is one of a newer version, `Corrupt` when it is not what was signed.
    pub fn parse(text: &str) -> Result<Self> {
        if is_of_newer(text, TITLE) {
            return Err(newer("the checkpoint"));
        }
        let read = Self::read(text).ok_or_else(|| Error::invalid("this is no checkpoint of an audit log"))?;
        let is_signed = match (&read.signer, &read.signature) {
            (None, None) => true,
            (Some(key), Some(signature)) => {
                UnparsedPublicKey::new(&ED25519, key).verify(read.statement().as_bytes(), signature).is_ok()
            }
            _ => false,
        };
        // What was read is written again: a line that says the same in another way is none that was signed.
        if is_signed && read.to_string() == text {
            return Ok(read);
        }
        Err(Error::corrupt("the checkpoint was changed: it is not what was signed"))
    }

    fn read(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        (text.len() <= TEXT_BYTES_MAX && lines.next()? == TITLE).then_some(())?;
        let mut database = DatabaseId([0; 16]);
        unhex(lines.next()?.strip_prefix("database ")?, &mut database.0)?;
        let size = lines.next()?.strip_prefix("size ")?.parse().ok()?;
        let (mut root, mut last) = ([0; 32], [0; 32]);
        unhex(lines.next()?.strip_prefix("root ")?, &mut root)?;
        unhex(lines.next()?.strip_prefix("last ")?, &mut last)?;
        let (at, _) = lines.next()?.strip_prefix("at ")?.split_once(' ')?;
        let at = Timestamp(at.parse().ok()?);
        let (mut key, mut signed) = ([0; PUBLIC_KEY_BYTES], [0; SIGNATURE_BYTES]);
        let is_there = read_or_none(lines.next()?.strip_prefix("signer ")?, &mut key)?;
        let signer = is_there.then_some(key);
        let is_there = read_or_none(lines.next()?.strip_prefix("signature ")?, &mut signed)?;
        let signature = is_there.then_some(signed);
        lines.next().is_none().then_some(Self { database, size, root, last, at, signer, signature })
    }

    /// Cuts a file of checkpoints, one behind the other, into their texts. What a crash has cut off is a text as well, and reads as none.
    pub fn split(file: &str) -> impl Iterator<Item = &str> {
        let mut rest = file;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let next = rest.get(1..).and_then(|behind| behind.find(&format!("\n{TITLE}\n")));
            let (text, behind) = rest.split_at(next.map_or(rest.len(), |at| at + 2));
            rest = behind;
            Some(text)
        })
    }
}

/// False for `none`, true for so many bytes in hexadecimal digits.
fn read_or_none(text: &str, out: &mut [u8]) -> Option<bool> {
    if text == "none" {
        return Some(false);
    }
    unhex(text, out).map(|()| true)
}

/// The whole checkpoint, as [`Checkpoint::parse`] reads it.
impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signature = self.signature.map_or_else(|| "none".to_owned(), |bytes| hex(&bytes));
        writeln!(f, "{}signature {signature}", self.statement())
    }
}

#[cfg(test)]
mod tests {
    use pugdb_core::ErrorKind;
    use pugdb_core::env::os::OsRandom;

    use super::*;
    use crate::certificate::Certificate;

    fn checkpoint(seed: Option<&Secret>) -> Checkpoint {
        let state = (42, [3; 32], [4; 32]);
        Checkpoint::new(DatabaseId([5; 16]), state, Timestamp(1_764_250_000_123), seed)
    }

    #[test]
    fn a_checkpoint_is_read_as_it_was_signed_and_says_whose_it_is() {
        let seed = Secret::random(&OsRandom);
        let signed = checkpoint(Some(&seed));
        assert_eq!(Checkpoint::parse(&signed.to_string()).unwrap(), signed);
        assert_eq!(signed.signer, Some(signer(&seed)));
        let plain = checkpoint(None);
        assert_eq!(Checkpoint::parse(&plain.to_string()).unwrap(), plain);
        assert!(plain.to_string().ends_with("signer none\nsignature none\n"));
    }

    #[test]
    fn each_byte_of_a_checkpoint_counts() {
        let text = checkpoint(Some(&Secret::random(&OsRandom))).to_string();
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            let error = Checkpoint::parse(&changed).unwrap_err();
            assert!(
                matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Invalid | ErrorKind::Unsupported),
                "{at}"
            );
            assert!(Checkpoint::parse(&text[..at]).is_err());
        }
        assert!(Checkpoint::parse(&format!("{text} ")).is_err());
        assert!(Checkpoint::parse(&text.replace('\n', "\r\n")).is_err());
        assert!(Checkpoint::parse(&text.replace("size 42", "size 042")).is_err());
        assert!(Checkpoint::parse(&text.replace("size 42", "size +42")).is_err());
        // A signature that is taken away is not one that there never was.
        let (statement, _) = text.split_once("signature ").unwrap();
        assert!(Checkpoint::parse(&format!("{statement}signature none\n")).is_err());
    }

    #[test]
    fn a_statement_of_one_kind_is_none_of_another() {
        let seed = Secret::random(&OsRandom);
        let certificate = Certificate::unsigned(DatabaseId([5; 16]), Vec::new(), Timestamp(1)).sign(&seed);
        assert!(Checkpoint::parse(&certificate.to_string()).is_err());
        assert!(Certificate::parse(&checkpoint(Some(&seed)).to_string()).is_err());
    }

    #[test]
    fn a_file_of_checkpoints_is_cut_where_each_begins() {
        let (one, two) =
            (checkpoint(None).to_string(), checkpoint(Some(&Secret::random(&OsRandom))).to_string());
        let file = format!("{one}{two}{}", &two[..100]);
        assert_eq!(Checkpoint::split(&file).collect::<Vec<_>>(), [&*one, &*two, &two[..100]]);
        let torn = format!("{}\n{one}", &one[..90]);
        assert_eq!(Checkpoint::split(&torn).collect::<Vec<_>>(), [&*format!("{}\n", &one[..90]), &*one]);
        assert_eq!(Checkpoint::split("").count(), 0);
        assert_eq!(Checkpoint::split("é").count(), 1);
    }
}
