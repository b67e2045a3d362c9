//! Whom clients believe, whom the server believes, and certificates that are read again while it runs.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

use pugdb::ErrorKind;
use rustls::{AlertDescription, CertificateError};

use super::parts::{Authority, Files, Identity, Secure, TlsClient, trusting};
use crate::tests::harness::options;
use crate::{CertificateInfo, Server, ServerOptions, TlsHandle, TlsOptions};

/// What TLS says of an end.
fn reason(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// How a client fares with this certificate: what it is answered, or the server's alert.
fn fares(server: &Secure, identity: Option<&Identity>) -> Result<String, AlertDescription> {
    // With TLS 1.3 a client is through with the handshake before the server has seen its certificate.
    let asked = server.connect_as(identity).and_then(|mut client| {
        let sent = client.send(b"PING\r\n");
        let reply = client.reply()?;
        sent.map(|()| reply)
    });
    match asked {
        Ok(reply) => Ok(format!("{reply:?}")),
        Err(error) => match reason(&error) {
            Some(rustls::Error::AlertReceived(alert)) => Err(*alert),
            other => panic!("{error}: {other:?}"),
        },
    }
}

fn handle(server: &Secure) -> TlsHandle {
    TlsHandle(server.running.shared.tls.clone().unwrap())
}

#[test]
fn a_client_believes_its_authority_only() {
    let server = Secure::start();
    let other = Authority::new();
    let error = TlsClient::connect(server.address(), trusting(&other, None)).err().unwrap();
    assert_eq!(reason(&error), Some(&rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)));
    server
        .running
        .eventually(|shared| shared.stats.tls_failures.get() == 1 && shared.handshakes.count() == 0);
    assert_eq!(server.connect().call(&["PING"]), "+PONG");
}

#[test]
fn certificates_of_clients_are_required_and_checked() {
    let (server, clients) = Secure::start_mutual(true);
    let ada = clients.issue("ada lovelace=1");
    assert_eq!(fares(&server, None), Err(AlertDescription::CertificateRequired));
    let stranger = Authority::new().issue("ada lovelace=1");
    assert_eq!(fares(&server, Some(&stranger)), Err(AlertDescription::UnknownCA));
    let expired = clients.issue_until("ada", rcgen::date_time_ymd(2021, 1, 1));
    assert_eq!(fares(&server, Some(&expired)), Err(AlertDescription::CertificateExpired));
    assert_eq!(server.running.shared.clients.count(), 0, "none of them was ever a client");

    let mut client = server.connect_as(Some(&ada)).unwrap();
    let described = client.call(&["CLIENT", "INFO"]);
    let path = server.files.write("ada.pem", &ada.certificate);
    let info = CertificateInfo::read_file(&path).unwrap().remove(0);
    let shown = format!(" tls=1.3 tls-cn=ada%20lovelace%3D1 tls-fingerprint={}", info.fingerprint);
    assert!(described.contains(&shown), "{described}");
    let known = server.running.shared.clients.all().remove(0);
    assert_eq!(known.certificate(), Some(&info));
    assert_eq!(info.common_name.as_deref(), Some("ada lovelace=1"));
}

#[test]
fn who_shows_the_certificate_of_a_user_is_that_user_from_the_first_command_on() {
    let (server, clients) = Secure::start_mutual(false);
    let (ada, other) = (clients.issue("ada.example"), clients.issue("bob.example"));
    let path = server.files.write("other.pem", &other.certificate);
    let fingerprint = CertificateInfo::read_file(&path).unwrap().remove(0).fingerprint;
    let mut admin = server.connect();
    assert_eq!(admin.call(&["ACL", "SETUSER", "ada", "on", "cert:ada.example", "+@all", "~a*"]), "+OK");
    assert_eq!(
        admin.call(&["ACL", "SETUSER", "bob", "on", &format!("cert:{}", fingerprint.with_colons()), "+@all"]),
        "+OK"
    );
    assert_eq!(admin.call(&["ACL", "SETUSER", "default", "resetpass", ">a password of admins"]), "+OK");

    let mut client = server.connect_as(Some(&ada)).unwrap();
    assert_eq!(client.call(&["ACL", "WHOAMI"]), "\"ada\"");
    assert_eq!(client.call(&["SET", "a1", "x"]), "+OK");
    assert!(client.call(&["SET", "b1", "x"]).starts_with("-NOPERM"));
    assert_eq!(client.call(&["RESET"]), "+RESET");
    assert_eq!(client.call(&["ACL", "WHOAMI"]), "\"ada\"", "as a new connection is");
    assert_eq!(server.connect_as(Some(&other)).unwrap().call(&["ACL", "WHOAMI"]), "\"bob\"");
    // A certificate that bears the fingerprint of another one as its name is not that one.
    let forger = clients.issue(&fingerprint.to_string());
    for identity in [None, Some(&forger), Some(&clients.issue("eve.example"))] {
        let mut nobody = server.connect_as(identity).unwrap();
        assert_eq!(nobody.call(&["GET", "a1"]), "-NOAUTH Authentication required.");
    }
    assert_eq!(admin.call(&["ACL", "SETUSER", "ada", "off"]), "+OK");
    let mut gone = server.connect_as(Some(&ada)).unwrap();
    assert_eq!(gone.call(&["GET", "a1"]), "-NOAUTH Authentication required.");
}

#[test]
fn a_certificate_of_a_client_may_be_missing_where_it_is_optional_but_not_wrong() {
    let (server, clients) = Secure::start_mutual(false);
    fares(&server, None).unwrap();
    fares(&server, Some(&clients.issue("ada"))).unwrap();
    let stranger = Authority::new().issue("ada");
    assert_eq!(fares(&server, Some(&stranger)), Err(AlertDescription::UnknownCA));
    let mut nobody = server.connect();
    assert!(!nobody.call(&["CLIENT", "INFO"]).contains("tls-cn"));
}

#[test]
fn a_client_without_a_certificate_is_not_taken_for_one_who_came_before() {
    let (server, clients) = Secure::start_mutual(false);
    // One configuration keeps sessions, if the server gives any.
    let config = trusting(&server.authority, Some(&clients.issue("ada")));
    for _ in 0..3 {
        let mut client = TlsClient::connect(server.address(), config.clone()).unwrap();
        assert_eq!(client.call(&["PING"]), "+PONG");
        assert_eq!(client.stream.conn.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
}

#[test]
fn certificates_are_read_again_under_load_and_connections_that_stand_go_on() {
    let server = Secure::start();
    let ended = AtomicBool::new(false);
    let other = Authority::new();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..3)
            .map(|_| {
                let mut client = server.connect();
                let ended = &ended;
                scope.spawn(move || {
                    let mut count = 0;
                    while !ended.load(Ordering::Relaxed) || count < 100 {
                        let reply = client.call(&["INCR", "n"]);
                        assert!(reply.starts_with(':'), "{reply}");
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        for round in 0..50 {
            let is_last = round == 49;
            let identity = if is_last { other.issue("new") } else { server.authority.issue("another") };
            server.files.write_identity(&identity);
            let info = handle(&server).reload().unwrap();
            assert_eq!(info, handle(&server).certificate());
            if !is_last {
                assert_eq!(server.connect().call(&["PING"]), "+PONG");
            }
        }
        ended.store(true, Ordering::Relaxed);
        let total: usize = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
        assert_eq!(server.running.connect().call(&["GET", "n"]), format!("\"{total}\""));
    });
    // Who comes now meets the new one.
    assert!(server.connect_as(None).is_err());
    let mut client = TlsClient::connect(server.address(), trusting(&other, None)).unwrap();
    assert!(client.call(&["INFO", "stats"]).contains("pugdb_tls_reloads:50"));
}

#[test]
fn authorities_of_clients_are_read_again_too() {
    let (server, before) = Secure::start_mutual(true);
    let (ada, after) = (before.issue("ada"), Authority::new());
    let mut stands = server.connect_as(Some(&ada)).unwrap();
    assert_eq!(stands.call(&["PING"]), "+PONG");
    server.files.write("clients.pem", &after.pem);
    // As programs that renew certificates of a Redis do it.
    let path = server.files.path("clients.pem").display().to_string();
    let mut plain = server.running.connect();
    assert_eq!(plain.call(&["CONFIG", "SET", "tls-ca-cert-file", &path]), "+OK");
    assert_eq!(fares(&server, Some(&ada)), Err(AlertDescription::UnknownCA));
    fares(&server, Some(&after.issue("ada"))).unwrap();
    assert_eq!(stands.call(&["PING"]), "+PONG");
    let other = plain.call(&["CONFIG", "SET", "tls-ca-cert-file", "/elsewhere"]);
    assert!(other.contains("it is chosen when the server starts"), "{other}");
    let shown = plain.call(&["CONFIG", "GET", "tls-*"]);
    assert!(
        shown.contains("\"tls-auth-clients\", \"yes\"") && shown.contains("\"TLSv1.2 TLSv1.3\""),
        "{shown}"
    );
}

#[test]
fn a_bad_file_keeps_what_was_and_says_so() {
    let server = Secure::start();
    let (handle, good) = (handle(&server), server.authority.issue("the server"));
    let before = handle.certificate();
    let expired = server.authority.issue_until("old", rcgen::date_time_ymd(2021, 1, 1));
    let swapped = Identity { key: server.authority.issue("another").key, ..good.clone() };
    let bad = |certificate: &str, key: &str| Identity { certificate: certificate.into(), key: key.into() };
    let cut = &good.certificate[..good.certificate.len() / 2];
    for (identity, says) in [
        (bad("", &good.key), "server.pem holds no certificate in PEM form"),
        (bad("nonsense", &good.key), "holds no certificate in PEM form"),
        (bad(cut, &good.key), "PEM form"),
        (bad(&good.certificate, ""), "server.key holds no private key in PEM form"),
        (bad(&good.certificate, &good.certificate), "holds no private key in PEM form"),
        (swapped, "does not belong to the certificate"),
        (expired, "is valid no more, since 2021-01-01"),
    ] {
        server.files.write_identity(&identity);
        let error = handle.reload().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(says), "{error}");
        assert!(!error.to_string().contains("BEGIN"), "{error}");
        assert_eq!(handle.certificate(), before);
        assert_eq!(server.connect().call(&["PING"]), "+PONG");
    }
    fs::remove_file(server.files.path("server.key")).unwrap();
    assert_eq!(handle.reload().unwrap_err().kind(), ErrorKind::NotFound);
    let mut plain = server.running.connect();
    let path = server.files.path("server.pem").display().to_string();
    let reply = plain.call(&["CONFIG", "SET", "timeout", "7", "tls-cert-file", &path]);
    assert!(
        reply.starts_with("-ERR CONFIG SET failed - ") && reply.ends_with("; nothing was changed"),
        "{reply}"
    );
    assert_eq!(plain.call(&["CONFIG", "GET", "timeout"]), "[\"timeout\", \"0\"]");
    server.files.write_identity(&good);
    assert_ne!(handle.reload().unwrap(), before);
    let info = plain.call(&["INFO", "stats"]);
    assert!(
        info.contains("pugdb_tls_reloads:1\\r") && info.contains("pugdb_tls_reload_failures:9\\r"),
        "{info}"
    );
}

#[test]
fn a_key_that_everybody_can_read_is_refused() {
    let (authority, files) = (Authority::new(), Files::new());
    let tls = files.write_identity(&authority.issue("the server"));
    let bind = |tls: TlsOptions| {
        let options = ServerOptions { tls: Some(tls), ..options() };
        Server::bind(options, pugdb::Database::in_memory().unwrap()).map(|_| ())
    };
    for (mode, is_fine) in [(0o600, true), (0o640, true), (0o644, false), (0o604, false), (0o602, false)] {
        fs::set_permissions(&tls.key, fs::Permissions::from_mode(mode)).unwrap();
        let bound = bind(tls.clone());
        assert_eq!(bound.as_ref().err().map(pugdb::Error::kind), (!is_fine).then_some(ErrorKind::Denied));
        assert!(bound.err().is_none_or(|error| error.to_string().contains("chmod o-rwx")), "{mode:o}");
    }
    // An expired one is the operator's to see, and no reason not to serve what is plain.
    let expired = files.write_identity(&authority.issue_until("old", rcgen::date_time_ymd(2021, 1, 1)));
    bind(expired).unwrap();
    let large = TlsOptions { certificate: files.write("large.pem", &"x".repeat(5 << 20)), ..tls };
    assert_eq!(bind(large).unwrap_err().kind(), ErrorKind::Invalid);
}
