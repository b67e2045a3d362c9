//! What a certificate says: whose it is, until when it is valid, and its fingerprint.

use std::path::Path;

use pugdb::env::Env;
use pugdb::keys::Fingerprint;
use pugdb::{Error, Result, Timestamp};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::files;
use crate::limits::{TLS_NAME_BYTES_MAX, TLS_NAMES_MAX};

/// What a certificate says, and its fingerprint. Nothing in it is checked by reading it.
///
/// ```
/// use pugdb_server::CertificateInfo;
///
/// let pair = rcgen::generate_simple_self_signed(["pug.example".to_owned()])?;
/// let info = CertificateInfo::read(pair.cert.der())?;
/// assert_eq!(info.names, ["pug.example"]);
/// assert_eq!(info.fingerprint, pugdb::keys::Fingerprint::of(pair.cert.der()));
/// assert!(CertificateInfo::read(b"no certificate").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateInfo {
    /// The common name of the subject, if there is exactly one of at most 256 bytes without control characters.
    pub common_name: Option<String>,
    /// Names of hosts, addresses, mail addresses and URIs that it is for: the first 16 that have at most 256 bytes.
    pub names: Vec<String>,
    /// It is valid from then on.
    pub not_before: Timestamp,
    /// It is valid until then.
    pub not_after: Timestamp,
    /// The SHA-256 of all of it.
    pub fingerprint: Fingerprint,
}

impl CertificateInfo {
    /// Reads a certificate in DER form.
    ///
    /// ```
    /// assert!(pugdb_server::CertificateInfo::read(&[0x30, 0x80]).is_err());
    /// ```
    ///
    /// # Errors
    /// `Invalid` when it is none.
    pub fn read(der: &[u8]) -> Result<Self> {
        let (_, certificate) = X509Certificate::from_der(der)
            .map_err(|_| Error::invalid("this is no certificate of the X.509 kind"))?;
        let mut subject = certificate.subject().iter_common_name();
        let common_name = match (subject.next(), subject.next()) {
            (Some(name), None) => name.as_str().ok().and_then(presentable),
            _ => None,
        };
        let names = match certificate.subject_alternative_name() {
            Ok(Some(names)) => {
                names.value.general_names.iter().filter_map(name_of).take(TLS_NAMES_MAX).collect()
            }
            _ => Vec::new(),
        };
        let validity = certificate.validity();
        Ok(Self {
            common_name,
            names,
            not_before: timestamp(validity.not_before.timestamp()),
            not_after: timestamp(validity.not_after.timestamp()),
            fingerprint: Fingerprint::of(der),
        })
    }

    /// Reads the certificates of a file in PEM form, in their order; there is at least one.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("server.pem");
    /// let pair = rcgen::generate_simple_self_signed(["pug.example".to_owned()])?;
    /// std::fs::write(&path, pair.cert.pem())?;
    /// assert_eq!(pugdb_server::CertificateInfo::read_file(&path)?.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// What the disk says; `Invalid` when it holds none.
    pub fn read_file(path: &Path) -> Result<Vec<Self>> {
        files::certificates(&Env::os(), path)?.iter().map(|der| Self::read(der)).collect()
    }

    /// Whether it is valid no more.
    ///
    /// ```
    /// # let pair = rcgen::generate_simple_self_signed(["pug.example".to_owned()])?;
    /// let mut info = pugdb_server::CertificateInfo::read(pair.cert.der())?;
    /// info.not_after = pugdb::Timestamp(1_000);
    /// assert!(!info.is_over(pugdb::Timestamp(1_000)) && info.is_over(pugdb::Timestamp(1_001)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_over(&self, now: Timestamp) -> bool {
        now > self.not_after
    }
}

fn name_of(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(text) | GeneralName::RFC822Name(text) | GeneralName::URI(text) => {
            presentable(text)
        }
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|bytes| std::net::Ipv4Addr::from(bytes).to_string()),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| std::net::Ipv6Addr::from(bytes).to_string()),
            _ => None,
        },
        _ => None,
    }
}

/// A name as it stands, or nothing: one that was cut off might be somebody else's.
fn presentable(name: &str) -> Option<String> {
    let is_fine = !name.is_empty() && name.len() <= TLS_NAME_BYTES_MAX && !name.chars().any(char::is_control);
    is_fine.then(|| name.to_owned())
}

/// Seconds since 1970, which may lie before.
fn timestamp(seconds: i64) -> Timestamp {
    Timestamp(u64::try_from(seconds).unwrap_or_default().saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn read(params: &CertificateParams) -> CertificateInfo {
        let key = KeyPair::generate().unwrap();
        CertificateInfo::read(params.self_signed(&key).unwrap().der()).unwrap()
    }

    #[test]
    fn a_certificate_tells_its_names() {
        let mut params =
            CertificateParams::new(["a.example".to_owned(), "10.0.0.1".to_owned(), "::1".to_owned()])
                .unwrap();
        params.distinguished_name.push(DnType::CommonName, "ada");
        params.subject_alt_names.push(SanType::URI("spiffe://house/ada".try_into().unwrap()));
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        let info = read(&params);
        assert_eq!(info.common_name.as_deref(), Some("ada"));
        assert_eq!(info.names, ["a.example", "10.0.0.1", "::1", "spiffe://house/ada"]);
        assert_eq!(info.not_after, Timestamp(1_893_456_000_000));
    }

    #[test]
    fn names_are_whole_or_not_there() {
        let mut params = CertificateParams::new(vec!["a".repeat(257), "b".repeat(256)]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "ada\nuser=root");
        let info = read(&params);
        assert_eq!((info.common_name, info.names), (None, vec!["b".repeat(256)]));
        // Of two common names nobody knows which one counts.
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "ada");
        params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 3]), "grace");
        assert_eq!(read(&params).common_name, None);
        let many = (0..100).map(|number| format!("host{number}")).collect::<Vec<_>>();
        assert_eq!(read(&CertificateParams::new(many).unwrap()).names.len(), TLS_NAMES_MAX);
    }

    proptest! {
        #[test]
        fn damaged_certificates_are_read_or_refused(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
            let pair = rcgen::generate_simple_self_signed(["pug.example".to_owned()]).unwrap();
            let mut der = pair.cert.der().to_vec();
            let at = at.index(der.len());
            der[at] = byte;
            let _ = CertificateInfo::read(&der);
            der.truncate(cut.index(der.len()));
            prop_assert!(CertificateInfo::read(&der).is_err());
        }
    }
}
