//! What a server is told of TLS when it starts.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::limits::TLS_HANDSHAKE_WAIT;

/// TLS of a [`Server`](crate::Server), beside its plain addresses. Versions 1.2 and 1.3 are spoken.
///
/// ```
/// use pugdb_server::{ClientCertificates, TlsOptions};
///
/// let options = TlsOptions::new("server.pem", "server.key");
/// assert!(options.addresses.is_empty() && options.clients == ClientCertificates::NotAsked);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsOptions {
    /// Where Redis clients are answered over TLS.
    pub addresses: Vec<SocketAddr>,
    /// Where `/livez`, `/readyz` and `/metrics` are answered over TLS.
    pub http: Option<SocketAddr>,
    /// The server's certificate and those between it and a root, in PEM form, its own first.
    pub certificate: PathBuf,
    /// Its private key in PEM form; it may be the same file.
    pub key: PathBuf,
    /// Whether clients show certificates.
    pub clients: ClientCertificates,
    /// How long a handshake may take, from the first to the last byte.
    pub handshake_wait: Duration,
}

/// Whether the clients of a server show certificates (mutual TLS). Those that do are checked against the authorities in a file in
/// PEM form.
///
/// ```
/// use pugdb_server::ClientCertificates;
///
/// let required = ClientCertificates::Required { authority: "clients.pem".into() };
/// assert_eq!(required.authority(), Some(std::path::Path::new("clients.pem")));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    /// They are not asked.
    #[default]
    NotAsked,
    /// They are asked; one that shows none is served too, one that shows a wrong one is not.
    Optional {
        /// Who has signed them.
        authority: PathBuf,
    },
    /// Whoever shows none is not served.
    Required {
        /// Who has signed them.
        authority: PathBuf,
    },
}

impl TlsOptions {
    /// A certificate and its key, no addresses yet, and clients that are not asked for certificates.
    ///
    /// ```
    /// let options = pugdb_server::TlsOptions::new("both.pem", "both.pem");
    /// assert_eq!(options.certificate, options.key);
    /// ```
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            addresses: Vec::new(),
            http: None,
            certificate: certificate.into(),
            key: key.into(),
            clients: ClientCertificates::NotAsked,
            handshake_wait: TLS_HANDSHAKE_WAIT,
        }
    }
}

impl ClientCertificates {
    /// The file with the authorities that sign them.
    ///
    /// ```
    /// assert_eq!(pugdb_server::ClientCertificates::NotAsked.authority(), None);
    /// ```
    pub fn authority(&self) -> Option<&Path> {
        match self {
            Self::NotAsked => None,
            Self::Optional { authority } | Self::Required { authority } => Some(authority),
        }
    }

    /// As the setting `tls-auth-clients` of Redis has it.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::NotAsked => "no",
            Self::Optional { .. } => "optional",
            Self::Required { .. } => "yes",
        }
    }
}
