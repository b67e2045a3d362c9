//! The fingerprint of something public, such as a certificate: what two people compare.

use std::fmt;
use std::str::FromStr;

use pugdb_core::{Error, Result};
use ring::digest::{SHA256, digest};

/// The SHA-256 (FIPS 180-4) of some bytes. It is shown as 64 hexadecimal digits, and read from them, with colons between them or
/// without, as other programs write it.
///
/// ```
/// use pugdb_security::Fingerprint;
///
/// let fingerprint = Fingerprint::of(b"abc");
/// assert!(fingerprint.to_string().starts_with("ba7816bf8f01cfea"));
/// assert!(fingerprint.with_colons().starts_with("BA:78:16:BF:"));
/// assert_eq!(fingerprint.with_colons().parse::<Fingerprint>()?, fingerprint);
/// # Ok::<(), pugdb_core::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of these bytes; of a certificate they are its DER.
    pub fn of(bytes: &[u8]) -> Self {
        let mut out = [0; 32];
        out.copy_from_slice(digest(&SHA256, bytes).as_ref());
        Self(out)
    }

    /// In pairs of capital digits, as `openssl x509 -fingerprint -sha256` prints it.
    pub fn with_colons(&self) -> String {
        self.0.map(|byte| format!("{byte:02X}")).join(":")
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refused =
            || Error::invalid("a fingerprint is the SHA-256 of a certificate: 64 hexadecimal digits");
        let digits: String = text.chars().filter(|letter| *letter != ':').collect();
        if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(refused());
        }
        let mut out = [0; 32];
        for (byte, pair) in out.iter_mut().zip(digits.as_bytes().as_chunks::<2>().0) {
            let pair = std::str::from_utf8(pair).map_err(|_| refused())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| refused())?;
        }
        Ok(Self(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_the_known_answer_of_the_standard() {
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Fingerprint::of(b"abc").to_string(), known);
        let parsed = |text: &str| text.parse::<Fingerprint>().unwrap();
        assert_eq!(parsed(known), Fingerprint::of(b"abc"));
        assert_eq!(parsed(&known.to_uppercase()), Fingerprint::of(b"abc"));
    }

    #[test]
    fn what_is_no_fingerprint_is_refused() {
        let short = "ba".repeat(31);
        let long = "ba".repeat(33);
        let wide = format!("{}ä", "a".repeat(62));
        for text in ["", "ba", short.as_str(), &long, &format!("{short}zz"), &format!("{short}+1"), &wide] {
            assert!(text.parse::<Fingerprint>().is_err(), "{text}");
        }
    }
}
