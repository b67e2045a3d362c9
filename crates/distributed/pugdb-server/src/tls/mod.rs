//! TLS: what a server shows and asks for, how connections begin, what is known of the other side.
//!
//! | file | its part |
//! |---|---|
//! | `options` | [`TlsOptions`]: addresses, files, whether clients show certificates |
//! | `files` | certificates and keys out of PEM files |
//! | `certificate` | [`CertificateInfo`]: what a certificate says |
//! | `config` | [`Tls`]: what new connections are served with, and how that is read again |
//! | `handshake` | from a socket that was accepted to one that is private, or to its end; bounded in time and number |
//! | `handle` | [`TlsHandle`]: what a program asks and does while the server runs |
//!
//! `docs/adr/0054-tls.md` has the reasons.

mod certificate;
mod config;
mod files;
mod handle;
mod handshake;
mod options;

pub use certificate::CertificateInfo;
pub(crate) use config::Tls;
pub use handle::{TlsHandle, TlsOccasion, TlsOccasions};
pub(crate) use handshake::{Handshakes, Place, Secured, looks_like_tls, serve_hello, tls_alert};
pub use options::{ClientCertificates, TlsOptions};

/// What is known of a client that came over TLS.
#[derive(Debug)]
pub(crate) struct TlsPeer {
    /// As `CLIENT LIST` shows it.
    pub(crate) version: &'static str,
    /// What the client has proved to be, if it was asked and has a certificate.
    pub(crate) certificate: Option<CertificateInfo>,
}
