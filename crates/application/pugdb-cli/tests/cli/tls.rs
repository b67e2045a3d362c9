//! TLS of `serve`, `pugdb tls`, and commands as clients over TLS.

use std::fs;
use std::io::{BufRead as _, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::command::{Run, pugdb, run};
use crate::directory::write;
use crate::server::{Running, program};

/// A directory with a server with TLS and all that it makes.
struct House {
    dir: TempDir,
    server: Running,
}

impl House {
    fn start(more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = start(dir.path(), more);
        Self { dir, server }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn address(&self) -> SocketAddr {
        tls_address(&self.server.greeting)
    }

    /// A command over TLS, to the name that everybody has.
    fn run(&self, arguments: &[&str]) -> Run {
        self.run_with(arguments, b"")
    }

    fn run_with(&self, arguments: &[&str], stdin: &[u8]) -> Run {
        let url = format!("rediss://localhost:{}", self.address().port());
        let mut command = program();
        command.current_dir(self.path()).arg(arguments[0]).args(["--url", &url]).args(&arguments[1..]);
        run(command, stdin)
    }

    /// Sends SIGHUP; the line that answers it.
    fn hang_up(&mut self) -> String {
        let id = Pid::from_raw(self.server.child.id().cast_signed()).unwrap();
        kill_process(id, Signal::HUP).unwrap();
        let mut line = String::new();
        self.server.stdout.read_line(&mut line).unwrap();
        line
    }
}

fn start(dir: &Path, more: &[&str]) -> Running {
    let tls = dir.join("tls").display().to_string();
    let mut arguments = vec!["--no-http", "--tls-address", "127.0.0.1:0", "--tls-dir", &tls];
    arguments.extend(more);
    Running::start(&dir.join("data"), &arguments)
}

fn tls_address(greeting: &str) -> SocketAddr {
    let (_, rest) = greeting.split_once("; tls on ").unwrap();
    rest.split([';', '\n']).next().unwrap().parse().unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// An authority and a certificate of its for this name, in files.
fn foreign(dir: &Path, name: &str) -> [PathBuf; 2] {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("the authority of {}", dir.display()));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let paths = [dir.join("foreign-ca.pem"), dir.join("foreign.pem")];
    write(&paths[0], authority.as_bytes());
    write(&paths[1], (certificate.pem() + &key.serialize_pem()).as_bytes());
    fs::set_permissions(&paths[1], fs::Permissions::from_mode(0o600)).unwrap();
    paths
}

fn shown(dir: &Path) -> Value {
    let run = pugdb(dir, &["tls", "show", "--tls-dir", "tls", "--json"]);
    assert_eq!(run.code, 0, "{run}");
    serde_json::from_str(run.text()).unwrap()
}

#[test]
fn the_first_start_makes_certificates_and_says_where_they_are() {
    let house = House::start(&["--tls-name", "pug.example"]);
    let tls = house.path().join("tls");
    let greeting = &house.server.greeting;
    assert!(greeting.contains("\ntls: a certificate for ") && greeting.contains(", made now;"), "{greeting}");
    assert!(
        greeting.contains(&format!("--tls-ca {}, whose SHA-256 is ", tls.join("ca.pem").display())),
        "{greeting}"
    );
    let modes = ["authority.pem", "server.pem", "ca.pem"].map(|name| mode(&tls.join(name)));
    assert_eq!((mode(&tls), modes), (0o700, [0o600, 0o600, 0o644]));
    let ca = fs::read_to_string(tls.join("ca.pem")).unwrap();
    assert!(ca.starts_with("-----BEGIN CERTIFICATE-----") && !ca.contains("KEY"), "{ca}");

    let first = shown(house.path());
    let names: Vec<&str> =
        first["server"]["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    for name in ["localhost", "127.0.0.1", "::1", "pug.example"] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    let words = pugdb(house.path(), &["tls", "show", "--tls-dir", "tls"]);
    let fingerprint =
        words.text().lines().find_map(|line| line.strip_prefix("  SHA-256 ")).unwrap().to_owned();
    assert!(greeting.contains(&fingerprint), "{words}");
    assert_eq!(fingerprint.replace(':', "").to_lowercase(), first["authority"]["fingerprint"]);
    for text in [greeting.as_str(), words.text(), &first.to_string()] {
        assert!(!text.contains("PRIVATE"), "{text}");
    }

    // The next start takes what is there, and another name is taken in.
    house.server.stop(Signal::TERM);
    let again = start(house.dir.path(), &["--tls-name", "pug.example"]);
    assert!(
        !again.greeting.contains("made now") && !again.greeting.contains("renewed"),
        "{}",
        again.greeting
    );
    assert_eq!(shown(house.dir.path()), first);
    again.stop(Signal::TERM);
    let more = start(house.dir.path(), &["--tls-name", "pug.example", "--tls-name", "10.1.2.3"]);
    assert!(
        more.greeting.contains("renewed because the last one was not for all names"),
        "{}",
        more.greeting
    );
    assert_eq!(shown(house.dir.path())["authority"], first["authority"]);
    more.stop(Signal::TERM);
}

#[test]
fn commands_work_over_tls_as_without() {
    let house = House::start(&[]);
    let own = ["--tls-dir", "tls"];
    let with_own = |arguments: &[&str]| house.run(&[arguments, &own[..]].concat());
    with_own(&["put", "ada", "1815"]).gives(0, "");
    with_own(&["get", "ada"]).gives(0, "1815");
    with_own(&["exists", "ada"]).gives(0, "1\n");
    with_own(&["scan"]).gives(0, "ada\t1815\n");
    let by_name = ["--tls-ca", "tls/ca.pem"];
    house.run(&[&["get", "ada"][..], &by_name].concat()).gives(0, "1815");
    let script = b"get ada\nuse db3\nput c 3\ncount\nCLIENT INFO\n";
    write(&house.path().join("big"), &vec![b'x'; 3 << 20]);
    with_own(&["put", "large", "@big"]).gives(0, "");
    let run = house.run_with(&["shell", "--tls-dir", "tls"], script);
    assert_eq!(run.code, 0, "{run}");
    assert!(run.text().starts_with("1815\n1\n") && run.text().contains(" tls=1.3"), "{run}");
    assert_eq!(with_own(&["get", "large"]).stdout.len(), 3 << 20);
    assert!(with_own(&["stats"]).text().lines().count() > 5);
    with_own(&["delete", "ada"]).gives(0, "");
    // A setting like all others.
    let mut command = program();
    let url = format!("rediss://127.0.0.1:{}/3", house.address().port());
    command.env("PUGDB_URL", &url).env("PUGDB_TLS_CA", "tls/ca.pem").args(["get", "c"]);
    run_in(house.path(), command).gives(0, "3");
    house.server.stop(Signal::TERM);
}

fn run_in(dir: &Path, mut command: std::process::Command) -> Run {
    command.current_dir(dir);
    run(command, b"")
}

#[test]
fn the_usual_directory_is_beside_the_keys() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = program();
    command.env("XDG_CONFIG_HOME", dir.path().join("config")).current_dir(dir.path());
    command.args(["serve", "--resp", "127.0.0.1:0", "--no-http", "--tls-address", "127.0.0.1:0"]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = lines.find_map(|line| line.ok().filter(|line| line.starts_with("ready on "))).unwrap();
    assert!(dir.path().join("config/pugdb/tls/server.pem").exists());
    let mut get = program();
    get.env("XDG_CONFIG_HOME", dir.path().join("config"));
    get.args(["exists", "k", "--url", &format!("rediss://{}", tls_address(&ready))]);
    run_in(dir.path(), get).gives(1, "0\n");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_server_that_is_not_believed_is_told_of_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let [ca, certificate] = foreign(dir.path(), "pug.example");
    let (ca, certificate) = (ca.display().to_string(), certificate.display().to_string());
    let house = House::start(&["--tls-cert", &certificate]);
    assert!(!house.path().join("tls").exists(), "nothing is made that was given");
    let other = House::start(&[]);
    let other_ca = other.path().join("tls/ca.pem").display().to_string();
    for (arguments, says) in [
        (["--tls-ca", &other_ca], &["is not believed", &other_ca, "has not signed", "--tls-ca FILE"][..]),
        (["--tls-ca", &ca], &["is not believed", "is not for localhost", "--tls-name localhost"]),
    ] {
        let run = house.run(&["get", "secret-key", arguments[0], arguments[1]]).gives(4, "").fails(4, says);
        assert_eq!(run.stderr.lines().count(), 1, "{run}");
        assert!(!run.stderr.contains("secret-key"), "{run}");
    }
    for (flag, path, says) in [
        ("--tls-ca", "nowhere.pem", "nowhere.pem"),
        ("--tls-ca", certificate.as_str(), "is not believed"),
        ("--client-cert", "/dev/null", "PEM"),
    ] {
        let run = house.run(&["get", "k", flag, path]);
        assert!(matches!(run.code, 2 | 4) && run.stderr.contains(says), "{run}");
    }
    house.server.stop(Signal::TERM);
    other.server.stop(Signal::TERM);
}

#[test]
fn a_client_at_the_wrong_port_is_told_which_one_is_right() {
    let house = House::start(&[]);
    let plain = format!("redis://127.0.0.1:{}", house.address().port());
    pugdb(house.path(), &["get", "k", "--url", &plain]).fails(4, &["speaks TLS only", "rediss://"]);
    let secured = format!("rediss://localhost:{}", house.server.address.port());
    pugdb(house.path(), &["get", "k", "--url", &secured, "--tls-dir", "tls"])
        .fails(4, &["does not speak TLS", "redis://"]);
    house.server.stop(Signal::TERM);
}

#[test]
fn clients_that_show_certificates_are_known_and_others_are_not_served() {
    let house = House::start(&["--tls-clients", "required"]);
    let trust = ["--tls-dir", "tls"];
    house
        .run(&["get", "k", "--tls-dir", "tls"])
        .fails(4, &["serves only who shows a certificate", "--client-cert"]);
    let made = pugdb(house.path(), &["tls", "client", "ada", "--tls-dir", "tls"]);
    assert!(made.code == 0 && made.text().starts_with("ada.pem has a certificate for ada"), "{made}");
    assert!(!made.text().contains("PRIVATE") && mode(&house.path().join("ada.pem")) == 0o600);
    // It is not made over another one.
    pugdb(house.path(), &["tls", "client", "ada", "--tls-dir", "tls"]).fails(2, &["ada.pem", "exists"]);
    pugdb(house.path(), &["tls", "client", "../ada", "--tls-dir", "tls"]).fails(2, &["letters, digits"]);
    let arguments = ["shell", trust[0], trust[1], "--client-cert", "ada.pem"];
    let run = house.run_with(&arguments, b"put k v\nget k\nCLIENT INFO\n");
    assert!(run.code == 0 && run.text().contains(" tls-cn=ada tls-fingerprint="), "{run}");
    // A server's certificate is none of a client, and somebody else's authority signs nothing here.
    let server = ["get", "k", trust[0], trust[1], "--client-cert", "tls/server.pem"];
    house.run(&server).fails(4, &["refuses the certificate"]);
    let [_, foreign] = foreign(house.path(), "ada");
    let stranger = ["get", "k", trust[0], trust[1], "--client-cert", foreign.to_str().unwrap()];
    house.run(&stranger).fails(4, &["refuses the certificate"]);
    house.server.stop(Signal::TERM);
}

#[test]
fn a_hangup_reads_the_certificates_again() {
    let mut house = House::start(&[]);
    house.run(&["put", "k", "v", "--tls-dir", "tls"]).gives(0, "");
    let before = shown(house.path());
    let renewed = pugdb(house.path(), &["tls", "renew", "--tls-dir", "tls"]);
    assert_eq!(renewed.code, 0, "{renewed}");
    let after = shown(house.path());
    assert_eq!(before["authority"], after["authority"]);
    assert_eq!(before["server"]["names"], after["server"]["names"]);
    assert_ne!(before["server"]["fingerprint"], after["server"]["fingerprint"]);
    let line = house.hang_up();
    assert!(line.starts_with("tls: new connections meet a certificate for "), "{line}");
    let info = house.run_with(&["shell", "--tls-dir", "tls"], b"INFO server\n");
    let fingerprint =
        format!("tls_certificate_fingerprint:{}", after["server"]["fingerprint"].as_str().unwrap());
    assert!(info.text().contains(&fingerprint), "{info}");

    // A new authority: who trusts the old one alone is told so.
    fs::copy(house.path().join("tls/ca.pem"), house.path().join("old-ca.pem")).unwrap();
    assert_eq!(pugdb(house.path(), &["tls", "renew", "--authority", "--tls-dir", "tls"]).code, 0);
    assert!(house.hang_up().starts_with("tls: new connections meet "));
    house.run(&["get", "k", "--tls-ca", "old-ca.pem"]).fails(4, &["old-ca.pem", "has not signed"]);
    house.run(&["get", "k", "--tls-dir", "tls"]).gives(0, "v");

    // Damage is told, and what was served is served on.
    write(&house.path().join("tls/authority.pem"), b"nonsense");
    let line = house.hang_up();
    assert!(
        line.contains("what was served before is served on: ") && line.contains("authority.pem"),
        "{line}"
    );
    house.run(&["get", "k", "--tls-dir", "tls"]).gives(0, "v");
    fs::set_permissions(house.path().join("tls/authority.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(house.hang_up().contains("chmod 600"));
    house.server.stop(Signal::TERM);
}

#[test]
fn given_certificates_are_read_again_and_bad_ones_are_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let [ca, certificate] = foreign(dir.path(), "localhost");
    let (ca, path) = (ca.display().to_string(), certificate.display().to_string());
    let mut house = House::start(&["--tls-cert", &path]);
    house.run(&["put", "k", "v", "--tls-ca", &ca]).gives(0, "");
    let good = fs::read_to_string(&certificate).unwrap();
    write(&certificate, &good.as_bytes()[..good.len() / 2]);
    let line = house.hang_up();
    assert!(line.starts_with("tls: the files were not taken") && line.contains(&path), "{line}");
    house.run(&["get", "k", "--tls-ca", &ca]).gives(0, "v");
    write(&certificate, good.as_bytes());
    assert!(
        house.hang_up().starts_with("tls: new connections meet a certificate for localhost, valid until ")
    );
    house.run(&["get", "k", "--tls-ca", &ca]).gives(0, "v");
    house.server.stop(Signal::TERM);
}

#[test]
fn an_address_with_tls_that_others_reach_needs_users_certificates_or_words() {
    let dir = tempfile::tempdir().unwrap();
    let serve = ["serve", "--resp", "127.0.0.1:0", "--tls-dir", "tls", "--tls-address", "0.0.0.0:0"];
    let refused = pugdb(dir.path(), &serve).gives(2, "");
    let refused = refused
        .fails(2, &["nobody has to say who he is", "--tls-clients required", "--allow-remote-without-users"]);
    assert!(!refused.stderr.contains("without-encryption"), "{refused}");
    // The words for another risk do not do.
    pugdb(dir.path(), &[&serve[..], &["--allow-remote-without-encryption"]].concat())
        .fails(2, &["nobody has to say who he is"]);
    let plain = ["serve", "--resp", "0.0.0.0:0", "--tls-dir", "tls", "--allow-remote-without-users"];
    pugdb(dir.path(), &plain).fails(2, &["no users and no TLS", "--allow-remote-without-encryption"]);
    let pages = ["serve", "--resp", "127.0.0.1:0", "--tls-dir", "tls", "--tls-http", "0.0.0.0:0"];
    pugdb(dir.path(), &pages).fails(2, &["--allow-remote-without-users"]);
    for useless in [&["--tls-cert", "x.pem"][..], &["--tls-clients", "required"], &["--tls-name", "a"]] {
        let serve = [&["serve", "--resp", "127.0.0.1:0"][..], useless].concat();
        pugdb(dir.path(), &serve).fails(2, &["nothing would be encrypted"]);
    }
    let no_plain = ["serve", "--no-plain"];
    pugdb(dir.path(), &no_plain).fails(2, &["--tls-address"]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was made");
}

#[test]
fn without_plain_addresses_everything_is_private() {
    let house = House::start(&["--no-plain", "--tls-http", "127.0.0.1:0"]);
    assert_eq!(house.server.address, house.address());
    assert!(house.server.greeting.contains("; https on 127.0.0.1:"), "{}", house.server.greeting);
    house.run(&["put", "k", "v", "--tls-dir", "tls"]).gives(0, "");
    let mut stream = TcpStream::connect(house.address()).unwrap();
    stream.write_all(b"GET k\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("-ERR this address speaks TLS only"), "{answer}");
    house.server.stop(Signal::TERM);
}

#[test]
fn what_it_says_of_tls_can_be_json() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = program();
    command.args(["serve", "--json", "--no-http", "--resp", "127.0.0.1:0", "--tls-address", "127.0.0.1:0"]);
    command.args(["--data", "data", "--tls-dir", "tls"]).current_dir(dir.path());
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let mut event = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    let [_, _, tls, ready] = std::array::from_fn(|_| event());
    let shown = shown(dir.path());
    assert_eq!(tls["event"], "tls");
    assert_eq!(tls["fingerprint"], shown["server"]["fingerprint"]);
    assert_eq!(tls["ca_fingerprint"], shown["authority"]["fingerprint"]);
    assert!(ready["tls"].as_str().unwrap().starts_with("127.0.0.1:"), "{ready}");
    child.kill().unwrap();
    child.wait().unwrap();
    pugdb(dir.path(), &["tls", "show", "--tls-dir", "nowhere"])
        .fails(1, &["there are no certificates in nowhere"]);
}
