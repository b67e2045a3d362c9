//! What new connections are served with: certificate, key and the authorities of clients, read together and replaced together.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use pugdb::env::Env;
use pugdb::{Error, Result, Timestamp};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::UnixTime;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{ConfigBuilder, ServerConfig, WantsVerifier};

use super::certificate::CertificateInfo;
use super::files;
use super::options::{ClientCertificates, TlsOptions};
use crate::stats::Counter;

/// TLS of a running server.
pub(crate) struct Tls {
    pub(crate) options: TlsOptions,
    env: Env,
    pub(crate) reloads: Counter,
    pub(crate) reload_failures: Counter,
    /// What the next connection is served with. Connections that stand keep what they began with.
    current: RwLock<Loaded>,
}

#[derive(Clone)]
struct Loaded {
    config: Arc<ServerConfig>,
    certificate: CertificateInfo,
}

impl Tls {
    /// Reads the files of the options.
    pub(crate) fn new(options: TlsOptions, env: Env) -> Result<Self> {
        let loaded = load(&options, &env)?;
        Ok(Self {
            options,
            env,
            reloads: Counter::default(),
            reload_failures: Counter::default(),
            current: RwLock::new(loaded),
        })
    }

    /// Reads all files again. If anything is wrong with one of them, everything stays as it was.
    pub(crate) fn reload(&self) -> Result<CertificateInfo> {
        let loaded = load(&self.options, &self.env).and_then(|loaded| self.check_not_worse(loaded));
        match loaded {
            Ok(loaded) => {
                let certificate = loaded.certificate.clone();
                *self.current.write() = loaded;
                self.reloads.add(1);
                Ok(certificate)
            }
            Err(error) => {
                self.reload_failures.add(1);
                Err(error)
            }
        }
    }

    /// Nobody replaces a certificate that is valid by one that is not, but by mistake.
    fn check_not_worse(&self, loaded: Loaded) -> Result<Loaded> {
        let now = self.now();
        if loaded.certificate.is_over(now) && !self.certificate().is_over(now) {
            let (path, end) = (self.options.certificate.display(), loaded.certificate.not_after.utc());
            return Err(Error::invalid(format!("the certificate in {path} is valid no more, since {end}")));
        }
        Ok(loaded)
    }

    /// What new connections are served with.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().config)
    }

    /// The server's certificate, as new connections see it.
    pub(crate) fn certificate(&self) -> CertificateInfo {
        self.current.read().certificate.clone()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.env.clock.now()
    }
}

fn load(options: &TlsOptions, env: &Env) -> Result<Loaded> {
    let chain = files::certificates(env, &options.certificate)?;
    let key = files::private_key(env, &options.key)?;
    let first = chain.first().ok_or_else(|| Error::internal("a file without certificates was accepted"))?;
    let certificate = CertificateInfo::read(first)
        .map_err(|error| error.at(format_args!("the certificate file {}", options.certificate.display())))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = versions(Arc::clone(&provider), env)?;
    let builder = match &options.clients {
        ClientCertificates::NotAsked => builder.with_no_client_auth(),
        ClientCertificates::Optional { authority } | ClientCertificates::Required { authority } => {
            let roots = Arc::new(files::roots(env, authority)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            let is_optional = matches!(options.clients, ClientCertificates::Optional { .. });
            let verifier = if is_optional { verifier.allow_unauthenticated() } else { verifier };
            let verifier = verifier.build().map_err(|error| {
                Error::invalid(format!("the authorities of clients in {}: {error}", authority.display()))
            })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| refused(options, &error))?;
    if options.clients != ClientCertificates::NotAsked {
        // A session that is resumed is not asked for its certificate again, which may have expired since.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(Loaded { config: Arc::new(config), certificate })
}

fn versions(provider: Arc<CryptoProvider>, env: &Env) -> Result<ConfigBuilder<ServerConfig, WantsVerifier>> {
    ServerConfig::builder_with_details(provider, Arc::new(Time(env.clone())))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| Error::internal(format!("TLS 1.2 and 1.3 are not to be had: {error}")))
}

fn refused(options: &TlsOptions, error: &rustls::Error) -> Error {
    let (certificate, key) = (options.certificate.display(), options.key.display());
    if matches!(error, rustls::Error::InconsistentKeys(_)) {
        return Error::invalid(format!(
            "the key in {key} does not belong to the certificate in {certificate}"
        ));
    }
    Error::invalid(format!("the certificate in {certificate} and the key in {key} cannot be used: {error}"))
}

/// The clock of the environment, as the library asks for it.
struct Time(Env);

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Time")
    }
}

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(self.0.clock.now().0)))
    }
}
