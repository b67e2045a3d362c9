//! How a user says who it is: a password, a token, a certificate; and what is kept of each. What is kept of a password
//! is slow to guess (Argon2id, RFC 9106), and beside it lies what SCRAM-SHA-256 needs (RFC 5802, RFC 7677).

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ring::digest::{SHA256, digest};
use ring::{hmac, pbkdf2};
use subtle::ConstantTimeEq as _;

const DIGEST_BYTES: usize = 32;

/// What is kept of a password: what Argon2id made of it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Verifier {
    pub(super) cost: Cost,
    pub(super) salt: Vec<u8>,
    pub(super) hash: [u8; DIGEST_BYTES],
}

/// How much work Argon2id is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) memory_kib: u32,
    pub(super) passes: u32,
    pub(super) lanes: u32,
}

impl Cost {
    /// The second of the choices of OWASP's password storage sheet. More takes a login longer.
    pub(super) const OURS: Self = Self { memory_kib: 19 * 1024, passes: 2, lanes: 1 };

    /// Less protects too little. A cost of its own, and not [`OURS`](Self::OURS): passwords stay readable when that is raised.
    const LEAST: Self = Self { memory_kib: 19 * 1024, passes: 2, lanes: 1 };
    /// More memory is somebody else's way to stop a server: `HASHES_AT_ONCE` times this is what logins take.
    const MEMORY_KIB_MAX: u32 = 256 * 1024;
    /// More work is, too: so many KiB are filled, however often. About a second.
    const WORK_KIB_MAX: u64 = 1 << 20;
    const LANES_MAX: u32 = 16;

    /// What a login costs, but for the memory.
    const fn work_kib(self) -> u64 {
        self.memory_kib as u64 * self.passes as u64
    }

    /// More memory may make up for a pass.
    const fn is_fine(self) -> bool {
        Self::LEAST.memory_kib <= self.memory_kib
            && self.memory_kib <= Self::MEMORY_KIB_MAX
            && Self::LEAST.work_kib() <= self.work_kib()
            && self.work_kib() <= Self::WORK_KIB_MAX
            && Self::LEAST.lanes <= self.lanes
            && self.lanes <= Self::LANES_MAX
    }
}

const _: () = assert!(Cost::OURS.is_fine() && Cost::LEAST.is_fine(), "what is made can be read");

impl Verifier {
    /// `$argon2id$v=19$m=19456,t=2,p=1$<salt>$<hash>`
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("$argon2id$v=19$")?.split('$');
        let mut cost = parts.next()?.split(',');
        let mut number = |name: &str| -> Option<u32> {
            let digits = cost.next()?.strip_prefix(name)?;
            let number: u32 = digits.parse().ok()?;
            (number.to_string() == digits).then_some(number)
        };
        let cost = Cost { memory_kib: number("m=")?, passes: number("t=")?, lanes: number("p=")? };
        let salt = STANDARD_NO_PAD.decode(parts.next()?).ok()?;
        let hash = STANDARD_NO_PAD.decode(parts.next()?).ok()?.try_into().ok()?;
        let found = Self { cost, salt, hash };
        let is_fine = cost.is_fine() && (8..=64).contains(&found.salt.len()) && found.to_text() == text;
        is_fine.then_some(found)
    }

    pub(super) fn to_text(&self) -> String {
        let Cost { memory_kib, passes, lanes } = self.cost;
        let (salt, hash) = (STANDARD_NO_PAD.encode(&self.salt), STANDARD_NO_PAD.encode(self.hash));
        format!("$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${salt}${hash}")
    }
}

/// What a server keeps to check a password by SCRAM-SHA-256: it cannot pretend to be the user with it.
///
/// ```
/// use pugdb_security::rights::ScramVerifier;
///
/// let verifier = ScramVerifier::derive(b"pencil", b"a salt of sixteen", 4096).unwrap();
/// assert_eq!(ScramVerifier::parse(&verifier.to_text()).unwrap(), verifier);
/// assert!(ScramVerifier::derive(b"pencil", b"a salt of sixteen", 100).is_none());
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ScramVerifier {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: [u8; DIGEST_BYTES],
    server_key: [u8; DIGEST_BYTES],
}

impl ScramVerifier {
    /// The least that RFC 7677 allows, and what PostgreSQL takes.
    pub const ITERATIONS: u32 = 4096;
    /// What a parsed one may ask for: a client pays for it.
    const ITERATIONS_MAX: u32 = 1_000_000;

    /// What is kept of a password. The password's bytes are taken as they are: those of a password in ASCII are what
    /// `SASLprep` makes of it. `None` for less work than the RFC allows, or a salt that is too short.
    pub fn derive(password: &[u8], salt: &[u8], iterations: u32) -> Option<Self> {
        let count = NonZeroU32::new(iterations).filter(|count| Self::is_fine(count.get(), salt))?;
        let mut salted = zeroize::Zeroizing::new([0; DIGEST_BYTES]);
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, count, salt, password, salted.as_mut_slice());
        let client_key = sign(salted.as_slice(), b"Client Key");
        Some(Self {
            iterations,
            salt: salt.to_vec(),
            stored_key: hashed(client_key.as_ref()),
            server_key: sign(salted.as_slice(), b"Server Key"),
        })
    }

    fn is_fine(iterations: u32, salt: &[u8]) -> bool {
        (Self::ITERATIONS..=Self::ITERATIONS_MAX).contains(&iterations) && (8..=64).contains(&salt.len())
    }

    /// How often the client hashes.
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// What the client hashes the password with.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// Whether a client's proof shows that it knows the password, for the messages of this login.
    pub fn accepts(&self, messages: &[u8], proof: &[u8]) -> bool {
        let signature = sign(&self.stored_key, messages);
        let Ok(proof) = <[u8; DIGEST_BYTES]>::try_from(proof) else { return false };
        let mut client_key = proof;
        client_key.iter_mut().zip(signature).for_each(|(byte, signed)| *byte ^= signed);
        hashed(&client_key).ct_eq(&self.stored_key).into()
    }

    /// What shows the client that the server knows the password.
    pub fn server_signature(&self, messages: &[u8]) -> [u8; 32] {
        sign(&self.server_key, messages)
    }

    /// As PostgreSQL writes it: `SCRAM-SHA-256$4096:<salt>$<stored key>:<server key>`.
    pub fn to_text(&self) -> String {
        let [salt, stored, server] =
            [&self.salt[..], &self.stored_key, &self.server_key].map(|bytes| STANDARD.encode(bytes));
        format!("SCRAM-SHA-256${}:{salt}${stored}:{server}", self.iterations)
    }

    /// What [`to_text`](Self::to_text) has written; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (how, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let ((iterations, salt), (stored, server)) = (how.split_once(':')?, keys.split_once(':')?);
        let key = |text: &str| STANDARD.decode(text).ok()?.try_into().ok();
        let found = Self {
            iterations: iterations.parse().ok()?,
            salt: STANDARD.decode(salt).ok()?,
            stored_key: key(stored)?,
            server_key: key(server)?,
        };
        (Self::is_fine(found.iterations, &found.salt) && found.to_text() == text).then_some(found)
    }
}

impl std::fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ScramVerifier")
    }
}

fn sign(key: &[u8], message: &[u8]) -> [u8; DIGEST_BYTES] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    tag.as_ref().try_into().expect("a tag of HMAC-SHA-256 has 32 bytes")
}

pub(super) fn hashed(bytes: &[u8]) -> [u8; DIGEST_BYTES] {
    digest(&SHA256, bytes).as_ref().try_into().expect("a digest of SHA-256 has 32 bytes")
}

/// One way in which a user can say who it is.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credential {
    Password {
        verifier: Verifier,
        scram: Option<ScramVerifier>,
    },
    /// The SHA-256 of a secret with much entropy: a token.
    Token([u8; DIGEST_BYTES]),
    /// What a client's certificate bears.
    Certificate(String),
}

impl Credential {
    /// The words that parse to it.
    pub(super) fn words(&self) -> Vec<String> {
        match self {
            Self::Password { verifier, scram } => {
                [verifier.to_text()].into_iter().chain(scram.as_ref().map(ScramVerifier::to_text)).collect()
            }
            Self::Token(digest) => vec![format!("#{}", hex(digest))],
            Self::Certificate(name) => vec![format!("cert:{name}")],
        }
    }
}

/// The word that makes a secret one of a user's tokens. Only for secrets that nobody can guess: it is quick to check.
///
/// ```
/// use pugdb_security::rights::token_word;
///
/// assert!(token_word(b"admin").starts_with("#8c6976e5b5410415bde908bd4dee15dfb167a9c873fc4bb8a81f6f2ab448a918"));
/// ```
pub fn token_word(secret: &[u8]) -> String {
    format!("#{}", hex(&hashed(secret)))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// 64 hexadecimal digits in lower case, as Redis wants them.
pub(super) fn parse_digest(text: &[u8]) -> Option<[u8; DIGEST_BYTES]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_chunks::<2>();
    let bytes: Option<Vec<u8>> =
        pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    bytes?.try_into().ok().filter(|_| rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scram_gives_what_the_example_of_its_rfc_gives() {
        // RFC 7677, section 3.
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = ScramVerifier::derive(b"pencil", &salt, 4096).unwrap();
        let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let messages = format!(
            "n=user,r=rOprNGfwEbeRWgbNEkqO,r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r={nonce}"
        );
        let proof = STANDARD.decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=").unwrap();
        assert!(verifier.accepts(messages.as_bytes(), &proof));
        assert_eq!(
            STANDARD.encode(verifier.server_signature(messages.as_bytes())),
            "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
        );
        let mut wrong = proof.clone();
        wrong[0] ^= 1;
        assert!(!verifier.accepts(messages.as_bytes(), &wrong));
        assert!(!verifier.accepts(b"n=user", &proof) && !verifier.accepts(messages.as_bytes(), &proof[1..]));
    }

    #[test]
    fn a_verifier_that_asks_for_too_little_or_too_much_is_none() {
        let good = Verifier { cost: Cost::OURS, salt: vec![7; 16], hash: [9; 32] };
        let text = good.to_text();
        assert!(Verifier::parse(&text).is_some_and(|parsed| parsed == good));
        for (from, to) in [
            ("m=19456", "m=8"),
            ("m=19456", "m=4294967295"),
            ("m=19456", "m=019456"),
            ("t=2", "t=1"),
            ("t=2", "t=1000"),
            ("m=19456", "m=19455"),
            ("m=19456", "m=262145"),
            ("t=2", "t=54"),
            ("m=19456,t=2", "m=262144,t=5"),
            ("m=19456,t=2", "m=38911,t=1"),
            ("p=1", "p=0"),
            ("p=1", "p=17"),
            ("argon2id", "argon2i"),
            ("v=19", "v=16"),
        ] {
            assert!(Verifier::parse(&text.replace(from, to)).is_none(), "{to}");
        }
        // The least, what RFC 9106 and OWASP recommend, and what a later release may take instead.
        for cost in
            ["m=19456,t=2,p=1", "m=47104,t=1,p=1", "m=65536,t=3,p=4", "m=262144,t=4,p=16", "m=19456,t=53,p=1"]
        {
            let other = text.replace("m=19456,t=2,p=1", cost);
            assert_eq!(Verifier::parse(&other).map(|parsed| parsed.to_text()), Some(other));
        }
        for text in [&text[..text.len() - 1], &format!("{text}x"), &format!("{text}$"), "", "$argon2id$"] {
            assert!(Verifier::parse(text).is_none());
        }
    }

    #[test]
    fn digests_are_64_small_digits() {
        let text = hex(&[0xab; 32]);
        assert_eq!(parse_digest(text.as_bytes()), Some([0xab; 32]));
        for wrong in [text.to_uppercase(), text[1..].to_owned(), format!("{text}0"), String::new()] {
            assert_eq!(parse_digest(wrong.as_bytes()), None);
        }
    }
}
