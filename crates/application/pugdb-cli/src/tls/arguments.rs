//! The flags of TLS: of `serve`, and of commands that are clients.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// TLS of `serve`.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ServeTls {
    /// Where Redis clients are answered over TLS, too, such as 0.0.0.0:7380
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) tls_address: Option<String>,
    /// Where /livez, /readyz and /metrics are answered over TLS, too
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) tls_http: Option<String>,
    /// The server's certificate, PEM, its own first [default: one that `serve` makes and renews by itself, in --tls-dir]
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Its private key, PEM [default: in the same file]
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Whether clients show certificates [default: required with --tls-client-ca, else no]
    #[arg(long, value_name = "WHETHER", value_enum)]
    pub(crate) tls_clients: Option<Clients>,
    /// Who has signed the certificates of clients, PEM [default: the authority in --tls-dir]
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_client_ca: Option<PathBuf>,
    /// A name or address for the certificate that `serve` makes, beside this machine's own; can be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) tls_name: Vec<String>,
    /// Where certificates are that `serve` makes [default: pugdb/tls in the user's configuration directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) tls_dir: Option<PathBuf>,
    /// Answer Redis clients over TLS only, on this machine too
    #[arg(long, requires = "tls_address")]
    pub(crate) no_plain: bool,
    /// Accept an address with TLS that other machines reach: everybody who does reads and changes everything
    #[arg(long)]
    pub(crate) allow_remote_without_users: bool,
}

/// Whether clients show certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Clients {
    /// They are not asked
    No,
    /// One that shows none is served, one that shows a wrong one is not
    Optional,
    /// Whoever shows none is not served
    Required,
}

/// TLS of a client.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ClientTls {
    /// Over rediss://, who has signed the server's certificate, PEM [default: the authority in --tls-dir if there is one, else the
    /// system's]
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Over rediss://, the certificate to show to the server, PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) client_cert: Option<PathBuf>,
    /// Its private key, PEM [default: in the same file]
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    pub(crate) client_key: Option<PathBuf>,
    /// Where certificates are that `serve` has made [default: pugdb/tls in the user's configuration directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) tls_dir: Option<PathBuf>,
}

impl ServeTls {
    /// Whether anything of it was asked for that needs an address.
    pub(crate) fn is_asked_for(&self) -> bool {
        self.tls_cert.is_some()
            || self.tls_clients.is_some()
            || self.tls_client_ca.is_some()
            || !self.tls_name.is_empty()
    }

    /// Whether clients show certificates.
    pub(crate) fn clients(&self) -> Clients {
        let usual = if self.tls_client_ca.is_some() { Clients::Required } else { Clients::No };
        self.tls_clients.unwrap_or(usual)
    }
}
