//! An authority of one's own in a directory, and what it signs: the server's certificate, which is renewed before it expires, and
//! those of clients. Keys lie beside their certificates in one file each, for their owner alone, so that no crash can part them.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pugdb::Timestamp;
use pugdb::env::Env;
use pugdb::keys::Fingerprint;
use pugdb_server::CertificateInfo;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use time::OffsetDateTime;

use super::names;
use crate::input::read_up_to;
use crate::outcome::{Exit, Failure};

/// Key and certificate of the authority.
const AUTHORITY: &str = "authority.pem";
/// Its certificate alone, which clients get.
const CA: &str = "ca.pem";
/// Key and certificate of the server.
const SERVER: &str = "server.pem";

const FILE_BYTES_MAX: usize = 64 << 10;
const OWNER_ONLY: u32 = 0o700;
const READABLE: u32 = 0o644;

const DAY_MS: u64 = 86_400_000;
/// Long, for every client has to be given a new one.
const AUTHORITY_DAYS: u64 = 3650;
/// Short, for it is renewed by itself.
const SERVER_DAYS: u64 = 90;
/// So many days before its end it is.
const RENEW_DAYS: u64 = 30;
/// Clocks differ: what is made now is valid since so long.
const SKEW_MS: u64 = 3_600_000;

/// The directory.
#[derive(Clone, Debug)]
pub(super) struct Store {
    dir: PathBuf,
}

/// Why a certificate was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    First,
    /// The last one was about to expire.
    Expiring,
    /// It was not for all names.
    Names,
    /// It was of another authority.
    Authority,
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    info: CertificateInfo,
}

impl Store {
    /// The directory that was named, or the usual one.
    pub(super) fn choose(named: Option<&Path>) -> Result<Self, Failure> {
        let dir = named.map(Path::to_owned).or_else(usual_directory).ok_or_else(|| {
            Failure::usage("there is no home directory for certificates: name a directory by --tls-dir")
        })?;
        Ok(Self { dir })
    }

    /// The authority's certificate, for clients.
    pub(super) fn ca(&self) -> PathBuf {
        self.dir.join(CA)
    }

    /// The server's certificate and key.
    pub(super) fn server(&self) -> PathBuf {
        self.dir.join(SERVER)
    }

    /// Makes what is missing, and the server's certificate anew where that has to be; why, if it was.
    pub(super) fn ensure(&self, names: &BTreeSet<String>) -> Result<Option<Made>, Failure> {
        let authority = self.authority()?;
        let path = self.server();
        let present = match read_private(&path)? {
            None => None,
            Some(pem) => Some(certificate(&pem, &path)?),
        };
        let now = now();
        let made = match &present {
            None => Some(Made::First),
            Some(der) => {
                let info = CertificateInfo::read(der)?;
                must_renew(&info, names, authority.believes(der, now), now)
            }
        };
        if made.is_some() {
            self.issue_server(&authority, names)?;
        }
        Ok(made)
    }

    /// A new certificate of the server, for the names of the one that is there; under a new authority, if that is asked for.
    pub(super) fn renew(&self, with_authority: bool) -> Result<(), Failure> {
        let path = self.server();
        let names = match read_private(&path)? {
            Some(pem) => CertificateInfo::read(&certificate(&pem, &path)?)?.names.into_iter().collect(),
            None => names::names(&[], &[])?,
        };
        let authority = if with_authority { self.new_authority(true)? } else { self.authority()? };
        self.issue_server(&authority, &names)
    }

    /// A certificate for a client and its key, in a file that is not there yet.
    pub(super) fn issue_client(
        &self,
        name: &str,
        days: u64,
        path: &Path,
    ) -> Result<CertificateInfo, Failure> {
        let authority = self.existing_authority()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let (pem, der) = authority.sign(params, days)?;
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        write(dir, path, &pem, Replace::No, None)?;
        Ok(CertificateInfo::read(&der)?)
    }

    /// What the authority's certificate and the server's say.
    pub(super) fn shown(&self) -> Result<(CertificateInfo, CertificateInfo), Failure> {
        let authority = self.existing_authority()?;
        let path = self.server();
        let pem = read_private(&path)?.ok_or_else(|| self.nothing())?;
        Ok((authority.info, CertificateInfo::read(&certificate(&pem, &path)?)?))
    }

    fn nothing(&self) -> Failure {
        let dir = self.dir.display();
        Failure::new(
            Exit::NotFound,
            format!("there are no certificates in {dir}; `pugdb serve --tls-address ADDRESS` makes them"),
        )
    }

    fn existing_authority(&self) -> Result<Authority, Failure> {
        let path = self.dir.join(AUTHORITY);
        let pem = read_private(&path)?.ok_or_else(|| self.nothing())?;
        Authority::parse(&pem, &path)
    }

    /// The authority, made if there is none.
    fn authority(&self) -> Result<Authority, Failure> {
        let path = self.dir.join(AUTHORITY);
        let authority = match read_private(&path)? {
            Some(pem) => Authority::parse(&pem, &path)?,
            None => self.new_authority(false)?,
        };
        let now = now();
        if authority.info.is_over(now) {
            return Err(Failure::new(
                Exit::Unavailable,
                format!(
                    "the authority in {} is valid no more, since {}; make a new one by `pugdb tls renew --authority`, and give {} to all clients",
                    self.dir.display(),
                    authority.info.not_after.utc(),
                    self.ca().display()
                ),
            ));
        }
        self.publish(&authority)?;
        Ok(authority)
    }

    fn new_authority(&self, replaces: bool) -> Result<Authority, Failure> {
        let mut directory = DirBuilder::new();
        directory.recursive(true).mode(OWNER_ONLY);
        directory
            .create(&self.dir)
            .map_err(|error| Failure::io(format!("make {}", self.dir.display()), &error))?;
        let key = KeyPair::generate().map_err(|error| unsigned(&error))?;
        let mut params = CertificateParams::default();
        let day = now().utc().chars().take_while(|letter| *letter != 'T').collect::<String>();
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        // No two have the same name: a client can tell them apart.
        let number: String =
            Fingerprint::of(&key.subject_public_key_info()).to_string().chars().take(8).collect();
        let name = format!("PugDB on {} of {day}, {number}", host.chars().take(24).collect::<String>());
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) = validity(AUTHORITY_DAYS, None)?;
        let certificate = params.self_signed(&key).map_err(|error| unsigned(&error))?;
        let pem = key.serialize_pem() + &certificate.pem();
        let path = self.dir.join(AUTHORITY);
        let replace = if replaces { Replace::Yes } else { Replace::No };
        match write(&self.dir, &path, &pem, replace, None) {
            // Another process was faster.
            Err(_) if !replaces && read_private(&path)?.is_some() => {}
            written => written?,
        }
        let pem = read_private(&path)?.ok_or_else(|| self.nothing())?;
        let authority = Authority::parse(&pem, &path)?;
        self.publish(&authority)?;
        Ok(authority)
    }

    /// Sees to it that clients can be given the certificate of this authority.
    fn publish(&self, authority: &Authority) -> Result<(), Failure> {
        let path = self.ca();
        let published = read(&path)?.and_then(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).ok());
        if published.as_ref() == Some(&authority.certificate) {
            return Ok(());
        }
        let whole = read_private(&self.dir.join(AUTHORITY))?.ok_or_else(|| self.nothing())?;
        // The key stands before it.
        let begin = whole.find("-----BEGIN CERTIFICATE-----");
        let pem = begin.and_then(|at| whole.get(at..)).ok_or_else(|| self.nothing())?;
        write(&self.dir, &path, pem, Replace::Yes, Some(READABLE))
    }

    fn issue_server(&self, authority: &Authority, names: &BTreeSet<String>) -> Result<(), Failure> {
        let names: Vec<String> = names.iter().cloned().collect();
        let name = names.iter().find(|name| !name.contains(':') && name.as_str() != "localhost");
        let mut params = CertificateParams::new(names.clone()).map_err(|error| unsigned(&error))?;
        let common_name = name.map_or("localhost", |name| name.get(..64).unwrap_or(name));
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let (pem, _) = authority.sign(params, SERVER_DAYS)?;
        write(&self.dir, &self.server(), &pem, Replace::Yes, None)
    }
}

impl Authority {
    fn parse(pem: &str, path: &Path) -> Result<Self, Failure> {
        let damaged = || {
            let path = path.display();
            Failure::new(
                Exit::Partial,
                format!(
                    "{path} is damaged; put back a copy of it, or make a new authority by `pugdb tls renew --authority`"
                ),
            )
        };
        let key = KeyPair::from_pem(pem).map_err(|_| damaged())?;
        let certificate = certificate(pem, path)?;
        let info = CertificateInfo::read(&certificate).map_err(|_| damaged())?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|_| damaged())?;
        Ok(Self { issuer, certificate, info })
    }

    /// A new key and a certificate for it, in one text, and the certificate alone.
    fn sign(
        &self,
        mut params: CertificateParams,
        days: u64,
    ) -> Result<(String, CertificateDer<'static>), Failure> {
        let key = KeyPair::generate().map_err(|error| unsigned(&error))?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = validity(days, Some(self.info.not_after))?;
        let signed = params.signed_by(&key, &self.issuer).map_err(|error| unsigned(&error))?;
        Ok((key.serialize_pem() + &signed.pem(), signed.der().clone()))
    }

    /// Whether a client that trusts it would believe this certificate.
    fn believes(&self, server: &CertificateDer<'_>, now: Timestamp) -> bool {
        let mut roots = RootCertStore::empty();
        if roots.add(self.certificate.clone()).is_err() {
            return false;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let Ok(verifier) = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()
        else {
            return false;
        };
        let Ok(name) = ServerName::try_from("localhost") else { return false };
        let now = UnixTime::since_unix_epoch(Duration::from_millis(now.0));
        verifier.verify_server_cert(server, &[], &name, &[], now).is_ok()
    }
}

/// Whether the server's certificate has to be made anew.
fn must_renew(
    info: &CertificateInfo,
    names: &BTreeSet<String>,
    is_believed: bool,
    now: Timestamp,
) -> Option<Made> {
    if info.not_after.0 < now.0.saturating_add(RENEW_DAYS * DAY_MS) {
        Some(Made::Expiring)
    } else if !is_believed {
        Some(Made::Authority)
    } else if !names.iter().all(|name| info.names.contains(name)) {
        Some(Made::Names)
    } else {
        None
    }
}

/// `pugdb/tls` in the user's configuration directory, beside the root keys.
fn usual_directory() -> Option<PathBuf> {
    crate::root_key::usual_directory().map(|keys| keys.with_file_name("tls"))
}

fn now() -> Timestamp {
    Env::os().clock.now()
}

/// From a moment ago for so many days, and no longer than its authority.
fn validity(days: u64, end_max: Option<Timestamp>) -> Result<(OffsetDateTime, OffsetDateTime), Failure> {
    let now = now();
    let end = now.0.saturating_add(days.saturating_mul(DAY_MS));
    let end = end_max.map_or(end, |max| end.min(max.0));
    let moment = |ms: u64| {
        let seconds = i64::try_from(ms / 1000).ok();
        seconds
            .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
            .ok_or_else(|| Failure::usage("the calendar of this machine is wrong"))
    };
    Ok((moment(now.0.saturating_sub(SKEW_MS))?, moment(end)?))
}

fn unsigned(error: &rcgen::Error) -> Failure {
    Failure::new(Exit::Internal, format!("the certificate could not be made: {error}"))
}

fn certificate(pem: &str, path: &Path) -> Result<CertificateDer<'static>, Failure> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| {
        Failure::new(Exit::Partial, format!("{} holds no certificate in PEM form", path.display()))
    })
}

/// A file, if it is there.
fn read(path: &Path) -> Result<Option<String>, Failure> {
    let failed = |error: &io::Error| Failure::io(format!("read {}", path.display()), error);
    let mut file = match OpenOptions::new().read(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|error| failed(&error))?,
    };
    let bytes = read_up_to(&mut file, FILE_BYTES_MAX).map_err(|error| failed(&error))?;
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    text.map(Some).ok_or_else(|| {
        Failure::new(Exit::Partial, format!("{} is no file with certificates", path.display()))
    })
}

/// The same for a file that holds a key: nobody but its owner may read it.
fn read_private(path: &Path) -> Result<Option<String>, Failure> {
    let text = read(path)?;
    let shown = path.display();
    let is_private = || Env::os().fs.is_private(path);
    if text.is_some() && !is_private().map_err(|error| Failure::io(format!("look at {shown}"), &error))? {
        return Err(Failure::new(
            Exit::Unavailable,
            format!(
                "others than its owner can read the private key in {shown}; run `chmod 600 {shown}`, and think about a new one"
            ),
        ));
    }
    Ok(text)
}

/// Whether a file that is there may be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Replace {
    Yes,
    No,
}

/// Writes a file whole or not at all, for its owner alone unless it is for others too.
fn write(dir: &Path, path: &Path, text: &str, replace: Replace, mode: Option<u32>) -> Result<(), Failure> {
    let shown = path.display();
    let failed = |error: &io::Error| Failure::io(format!("write {shown}"), error);
    let mut file = tempfile::Builder::new().prefix(".").tempfile_in(dir).map_err(|error| failed(&error))?;
    let written = file.write_all(text.as_bytes()).and_then(|()| match mode {
        Some(mode) => file.as_file().set_permissions(Permissions::from_mode(mode)),
        None => Ok(()),
    });
    written.and_then(|()| file.as_file().sync_all()).map_err(|error| failed(&error))?;
    let persisted = if replace == Replace::Yes { file.persist(path) } else { file.persist_noclobber(path) };
    persisted.map_err(|error| failed(&error.error))?;
    Env::os().fs.sync_dir(dir).map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(dir: &Path) -> Store {
        Store::choose(Some(&dir.join("tls"))).unwrap()
    }

    fn names(more: &[&str]) -> BTreeSet<String> {
        ["localhost"].iter().chain(more).map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn a_certificate_is_renewed_before_its_end_for_names_and_for_another_authority() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        assert_eq!(store.ensure(&names(&[])).unwrap(), Some(Made::First));
        let (_, info) = store.shown().unwrap();
        let days = |days: u64| Timestamp(info.not_after.0 - days * DAY_MS);
        let must =
            |names: &[&str], is_believed, now| must_renew(&info, &self::names(names), is_believed, now);
        assert_eq!(must(&[], true, days(31)), None);
        assert_eq!(must(&[], true, days(30)), None);
        assert_eq!(must(&[], true, Timestamp(days(30).0 + 1)), Some(Made::Expiring));
        assert_eq!(must(&[], true, Timestamp(u64::MAX)), Some(Made::Expiring));
        assert_eq!(must(&["pug"], true, days(31)), Some(Made::Names));
        assert_eq!(must(&[], false, days(31)), Some(Made::Authority));
    }

    #[test]
    fn what_is_there_is_kept_and_what_is_missing_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        store.ensure(&names(&[])).unwrap();
        let before = store.shown().unwrap();
        assert_eq!(store.ensure(&names(&[])).unwrap(), None);
        std::fs::remove_file(store.ca()).unwrap();
        assert_eq!(store.ensure(&names(&[])).unwrap(), None);
        assert_eq!(store.shown().unwrap(), before);
        assert_eq!(CertificateInfo::read_file(&store.ca()).unwrap(), std::slice::from_ref(&before.0));
        // One that is about to expire.
        let authority = store.existing_authority().unwrap();
        let (pem, _) = authority.sign(CertificateParams::new(["localhost".to_owned()]).unwrap(), 29).unwrap();
        write(&store.dir, &store.server(), &pem, Replace::Yes, None).unwrap();
        assert_eq!(store.ensure(&names(&[])).unwrap(), Some(Made::Expiring));
        // A crash behind a new authority leaves a certificate of the old one.
        store.new_authority(true).unwrap();
        assert_eq!(store.ensure(&names(&[])).unwrap(), Some(Made::Authority));
        let after = store.shown().unwrap();
        assert_ne!(after.0.fingerprint, before.0.fingerprint);
        assert_eq!(CertificateInfo::read_file(&store.ca()).unwrap(), [after.0]);
        assert_eq!(store.ensure(&names(&[])).unwrap(), None);
    }

    #[test]
    fn servers_that_start_together_have_one_authority() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| store(dir.path()).ensure(&names(&[])).unwrap());
            }
        });
        let store = store(dir.path());
        let authority = store.existing_authority().unwrap();
        let pem = read_private(&store.server()).unwrap().unwrap();
        assert!(authority.believes(&certificate(&pem, &store.server()).unwrap(), now()));
        assert_eq!(CertificateInfo::read_file(&store.ca()).unwrap(), [authority.info]);
        assert_eq!(std::fs::read_dir(dir.path().join("tls")).unwrap().count(), 3, "nothing is left over");
    }

    #[test]
    fn a_certificate_of_a_client_is_none_of_a_server_and_ends_with_its_authority() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let path = dir.path().join("ada.pem");
        assert_eq!(store.issue_client("ada", 1, &path).unwrap_err().exit, Exit::NotFound);
        store.ensure(&names(&[])).unwrap();
        let info = store.issue_client("ada", 365, &path).unwrap();
        assert_eq!(info.common_name.as_deref(), Some("ada"));
        let pem = read_private(&path).unwrap().unwrap();
        let authority = store.existing_authority().unwrap();
        assert!(!authority.believes(&certificate(&pem, &path).unwrap(), now()));
        let long = store.issue_client("ada", 100_000, &dir.path().join("long.pem")).unwrap();
        assert_eq!(long.not_after, authority.info.not_after);
    }

    #[test]
    fn damaged_files_are_told_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        store.ensure(&names(&[])).unwrap();
        let path = store.dir.join(AUTHORITY);
        let whole = read_private(&path).unwrap().unwrap();
        for length in (0..whole.len()).step_by(61) {
            write(&store.dir, &path, &whole[..length], Replace::Yes, None).unwrap();
            let failure = store.ensure(&names(&[])).unwrap_err();
            assert_eq!(failure.exit, Exit::Partial, "{}", failure.message);
            assert!(failure.message.contains("authority.pem") && !failure.message.contains("BEGIN"));
        }
        write(&store.dir, &path, &whole, Replace::Yes, Some(READABLE)).unwrap();
        let failure = store.ensure(&names(&[])).unwrap_err();
        assert!(failure.message.contains("chmod 600"), "{}", failure.message);
    }
}
