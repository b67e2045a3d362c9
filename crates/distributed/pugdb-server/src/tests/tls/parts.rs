//! Certificates that are made for a test, a server with TLS, and its clients.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use pugdb::keys::Fingerprint;
use pugdb_wire::resp::{Reply, ReplyDecoder, ReplyLimits};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use tempfile::TempDir;
use time::OffsetDateTime;

use crate::tests::harness::{Running, options, render, request};
use crate::{ClientCertificates, ServerOptions, TlsOptions};

/// Far more than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// Somebody who signs certificates.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) pem: String,
}

/// A certificate and its key, in PEM form.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        let key = KeyPair::generate().unwrap();
        // No two have the same name.
        let name = format!("an authority of a test, {}", Fingerprint::of(&key.subject_public_key_info()));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for `localhost` and 127.0.0.1, and with this name.
    pub(super) fn issue(&self, name: &str) -> Identity {
        self.issue_until(name, rcgen::date_time_ymd(2100, 1, 1))
    }

    pub(super) fn issue_until(&self, name: &str, end: OffsetDateTime) -> Identity {
        let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(2020, 1, 1), end);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity { certificate, key: key.serialize_pem() }
    }
}

/// A server with TLS, and the files that it reads.
pub(super) struct Secure {
    pub(super) running: Running,
    pub(super) authority: Authority,
    pub(super) files: Files,
}

pub(super) struct Files(TempDir);

impl Files {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        replace(&path, text);
        path
    }

    /// What a server needs, in files of these names.
    pub(super) fn write_identity(&self, identity: &Identity) -> TlsOptions {
        let certificate = self.write("server.pem", &identity.certificate);
        let key = self.write("server.key", &identity.key);
        TlsOptions { addresses: vec![any_port()], ..TlsOptions::new(certificate, key) }
    }
}

fn replace(path: &Path, text: &str) {
    let mut file = fs::File::create(path).unwrap();
    file.set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

pub(super) fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

impl Secure {
    pub(super) fn start() -> Self {
        Self::start_with(|options, _| options)
    }

    /// With other options; the authorities of the clients are to be written to the files.
    pub(super) fn start_with(change: impl FnOnce(ServerOptions, &Files) -> ServerOptions) -> Self {
        let (authority, files) = (Authority::new(), Files::new());
        let tls = files.write_identity(&authority.issue("the server"));
        let options = change(ServerOptions { tls: Some(tls), ..options() }, &files);
        Self { running: Running::in_memory_with(options), authority, files }
    }

    /// With clients that show certificates of the second authority.
    pub(super) fn start_mutual(is_required: bool) -> (Self, Authority) {
        let clients = Authority::new();
        let server = Self::start_with(|options, files| {
            let authority = files.write("clients.pem", &clients.pem);
            let clients = if is_required {
                ClientCertificates::Required { authority }
            } else {
                ClientCertificates::Optional { authority }
            };
            with_tls(options, |tls| tls.clients = clients)
        });
        (server, clients)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.running.shared.tls_addresses[0]
    }

    pub(super) fn connect(&self) -> TlsClient {
        self.connect_as(None).unwrap()
    }

    pub(super) fn connect_as(&self, identity: Option<&Identity>) -> io::Result<TlsClient> {
        TlsClient::connect(self.address(), trusting(&self.authority, identity))
    }
}

pub(super) fn with_tls(mut options: ServerOptions, change: impl FnOnce(&mut TlsOptions)) -> ServerOptions {
    change(options.tls.as_mut().unwrap());
    options
}

/// A client that trusts this authority.
pub(super) fn trusting(authority: &Authority, identity: Option<&Identity>) -> Arc<ClientConfig> {
    trusting_with(authority, identity, rustls::DEFAULT_VERSIONS)
}

pub(super) fn trusting_with(
    authority: &Authority,
    identity: Option<&Identity>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let builder = builder.with_root_certificates(roots);
    Arc::new(match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![certificate], key).unwrap()
        }
    })
}

pub(super) struct TlsClient {
    pub(super) stream: StreamOwned<ClientConnection, TcpStream>,
    decoder: ReplyDecoder,
    input: BytesMut,
}

impl TlsClient {
    /// A connection behind its handshake.
    pub(super) fn connect(address: SocketAddr, config: Arc<ClientConfig>) -> io::Result<Self> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from("localhost").unwrap();
        let mut session = ClientConnection::new(config, name).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        let stream = StreamOwned::new(session, socket);
        Ok(Self { stream, decoder: ReplyDecoder::new(ReplyLimits::default()), input: BytesMut::new() })
    }

    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())?;
        self.stream.flush()
    }

    /// The next reply; `None` when the server has ended the connection as it should be.
    pub(super) fn reply(&mut self) -> io::Result<Option<Reply>> {
        let mut chunk = vec![0; 64 << 10];
        loop {
            if let Some(reply) = self.decoder.decode(&mut self.input).unwrap() {
                return Ok(Some(reply));
            }
            match self.stream.read(&mut chunk)? {
                0 => return Ok(None),
                count => self.input.extend_from_slice(&chunk[..count]),
            }
        }
    }

    /// The next reply as the harness writes it, `closed` for an end in good order, `broken` for another one.
    pub(super) fn text(&mut self) -> String {
        match self.reply() {
            Ok(Some(reply)) => render(&reply),
            Ok(None) => "closed".into(),
            Err(_) => "broken".into(),
        }
    }

    pub(super) fn call(&mut self, arguments: &[&str]) -> String {
        self.send(request(arguments)).unwrap();
        self.text()
    }

    /// Says goodbye and sends nothing any more.
    pub(super) fn end_sending(&mut self) {
        self.stream.conn.send_close_notify();
        self.stream.flush().unwrap();
        self.stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
    }
}
