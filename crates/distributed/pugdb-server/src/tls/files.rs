//! Certificates and keys out of PEM files: bounded, and never a byte of them in an error.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use pugdb::env::{Access, Env};
use pugdb::{Error, Result};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::limits::{TLS_CERTIFICATES_MAX, TLS_FILE_BYTES_MAX};

/// The rights of those who are neither owner nor of the file's group.
const OTHERS: u32 = 0o007;

/// All certificates of a file, at least one.
pub(super) fn certificates(env: &Env, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let shown = path.display();
    let bytes = read(env, "certificate", path)?;
    let mut found = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate = certificate
            .map_err(|_| Error::invalid(format!("the certificate file {shown} is not in PEM form")))?;
        found.push(certificate);
        if found.len() > TLS_CERTIFICATES_MAX {
            return Err(Error::invalid(format!(
                "the certificate file {shown} holds more than {TLS_CERTIFICATES_MAX} certificates"
            )));
        }
    }
    if found.is_empty() {
        return Err(Error::invalid(format!("the file {shown} holds no certificate in PEM form")));
    }
    Ok(found)
}

/// The first private key of a file that not everybody may read.
pub(super) fn private_key(env: &Env, path: &Path) -> Result<PrivateKeyDer<'static>> {
    let shown = path.display();
    let bytes = read(env, "private key", path)?;
    let mode = fs::metadata(path).map_err(|error| Error::io(format_args!("look at {shown}"), error))?;
    if mode.permissions().mode() & OTHERS != 0 {
        return Err(Error::denied(format!(
            "everybody on this machine can read the private key {shown}; run `chmod o-rwx {shown}`, and think about a new key"
        )));
    }
    PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|_| Error::invalid(format!("the file {shown} holds no private key in PEM form")))
}

/// The authorities of a file, as what certificates are checked against.
pub(super) fn roots(env: &Env, path: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(env, path)? {
        roots.add(certificate).map_err(|_| {
            Error::invalid(format!("{} holds a certificate that is none of an authority", path.display()))
        })?;
    }
    Ok(roots)
}

fn read(env: &Env, what: &str, path: &Path) -> Result<Vec<u8>> {
    let failed = |error| Error::io(format_args!("read the {what} {}", path.display()), error);
    let file = env.fs.open(path, Access::Read).map_err(failed)?;
    let length = file.length().map_err(failed)?;
    if length > TLS_FILE_BYTES_MAX {
        return Err(Error::invalid(format!(
            "{} has more than {TLS_FILE_BYTES_MAX} bytes: no file with certificates has",
            path.display()
        )));
    }
    let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
    file.read_exact_at(&mut bytes, 0).map_err(failed)?;
    Ok(bytes)
}
