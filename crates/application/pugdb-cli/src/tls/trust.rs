//! Whom a client believes to be the server, what it shows of itself, and what it says when it does not believe. There is no way to
//! believe everybody.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};

use super::arguments::ClientTls;
use super::store::Store;
use crate::input::read_up_to;
use crate::outcome::{Exit, Failure};
use crate::url::ServerUrl;

/// The roots of a whole system take 250 KiB.
const FILE_BYTES_MAX: usize = 4 << 20;

/// Whom a client believes.
pub(crate) struct Trust {
    pub(crate) config: Arc<ClientConfig>,
    /// In words: who has to have signed the server's certificate.
    pub(crate) authority: String,
}

impl Trust {
    pub(crate) fn of(arguments: &ClientTls) -> Result<Self, Failure> {
        let (roots, authority) = roots(arguments)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Failure::new(Exit::Internal, format!("TLS is not to be had: {error}")))?
            .with_root_certificates(roots);
        let config = match &arguments.client_cert {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let key_path = arguments.client_key.as_ref().unwrap_or(path);
                let key = PrivateKeyDer::from_pem_slice(&read(key_path)?).map_err(|_| {
                    Failure::usage(format!("{} holds no private key in PEM form", key_path.display()))
                })?;
                builder.with_client_auth_cert(certificates(path)?, key).map_err(|error| {
                    let (path, key_path) = (path.display(), key_path.display());
                    Failure::usage(format!(
                        "the certificate in {path} and the key in {key_path} cannot be used together: {error}"
                    ))
                })?
            }
        };
        Ok(Self { config: Arc::new(config), authority })
    }
}

/// The authorities that count: those that were named, else the one that `serve` has made on this machine, else the system's.
fn roots(arguments: &ClientTls) -> Result<(RootCertStore, String), Failure> {
    let own = || -> Option<PathBuf> {
        let store = Store::choose(arguments.tls_dir.as_deref()).ok()?;
        Some(store.ca()).filter(|ca| ca.exists())
    };
    let mut roots = RootCertStore::empty();
    if let Some(path) = arguments.tls_ca.clone().or_else(own) {
        for certificate in certificates(&path)? {
            roots.add(certificate).map_err(|_| {
                Failure::usage(format!("{} holds a certificate that is none of an authority", path.display()))
            })?;
        }
        return Ok((roots, format!("the authority in {}", path.display())));
    }
    // Some of a system's may be too old to be read.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(Failure::usage(
            "nobody is there to be trusted: name who has signed the server's certificate by --tls-ca FILE; `pugdb tls show` on the \
             server says where that is",
        ));
    }
    Ok((roots, "an authority of this system".to_owned()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let bytes = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    found
        .ok()
        .filter(|found| !found.is_empty())
        .ok_or_else(|| Failure::usage(format!("{} holds no certificate in PEM form", path.display())))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error: &io::Error| Failure::io(format!("read {}", path.display()), error);
    let mut file = OpenOptions::new().read(true).open(path).map_err(|error| failed(&error))?;
    let bytes = read_up_to(&mut file, FILE_BYTES_MAX).map_err(|error| failed(&error))?;
    bytes.ok_or_else(|| {
        Failure::usage(format!("{} is too large for a file with certificates", path.display()))
    })
}

/// What an error of TLS means to whoever wanted to connect; `None` when it is not one of TLS.
pub(crate) fn explain(error: &io::Error, url: &ServerUrl, authority: &str) -> Option<String> {
    let host = &url.host;
    Some(match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(reason) => match reason {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
                "the server on {url} is not believed: {authority} has not signed its certificate. It is another server, or somebody on the \
                 way, or it has another authority, which --tls-ca FILE names"
            ),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => format!(
                "the server on {url} is not believed: its certificate is not for {host}. Connect by a name that it is for, or have it made \
                 for this one (`pugdb serve --tls-name {host}`)"
            ),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                format!(
                    "the server on {url} is not believed: its certificate has expired, or a clock is wrong"
                )
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                format!(
                    "the server on {url} is not believed: its certificate is not valid yet, or a clock is wrong"
                )
            }
            other => format!("the server on {url} is not believed: its certificate is wrong ({other})"),
        },
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            format!("the server on {url} serves only who shows a certificate; name one by --client-cert FILE")
        }
        rustls::Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::AccessDenied,
        ) => format!(
            "the server on {url} refuses the certificate of --client-cert: its authority has not signed it, or it has expired"
        ),
        rustls::Error::AlertReceived(
            AlertDescription::HandshakeFailure | AlertDescription::ProtocolVersion,
        )
        | rustls::Error::InvalidMessage(_) => {
            format!(
                "what answers on {url} does not speak TLS, or none that is known here; redis:// is for what is plain"
            )
        }
        other => format!("no private connection to {url} came about: {other}"),
    })
}
