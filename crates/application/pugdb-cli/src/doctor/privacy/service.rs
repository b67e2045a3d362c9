//! Writes the secrets as clients of a server would, kills the server in the middle, and keeps everything that it says. Step 2b.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use pugdb_wire::resp::Reply;
use rustix::process::{Pid, Signal, kill_process};

use super::library::{OF_SERVER, Trial, write_text};
use super::make_folder;
use super::secrets::{Kind, Secrets};
use crate::outcome::{Exit, Failure};
use crate::remote::Remote;
use crate::tls::ClientTls;

const HTTP_TIMEOUT: Duration = Duration::from_secs(10);
/// Keys of the server that are written before it is killed; the rest is under way then.
const BEFORE_THE_KILL: usize = OF_SERVER / 2;

/// A server of the trial. It is killed when it is dropped.
struct Service {
    child: Child,
    stdout: BufReader<ChildStdout>,
    said: String,
    resp: String,
    http: Option<String>,
    name: &'static str,
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Trial {
    /// This program, with no settings but those of the trial.
    fn program() -> Result<Command, Failure> {
        let program = std::env::current_exe().map_err(|error| Failure::io("find this program", &error))?;
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PUGDB_") {
                command.env_remove(name);
            }
        }
        command.env("PUGDB_CONFIG", "/dev/null").stdin(Stdio::null());
        Ok(command)
    }

    fn place(&self, data: &Path) -> Vec<String> {
        let mut words = vec!["--data".to_owned(), data.display().to_string()];
        if self.is_encrypted {
            words.extend(["--root-key".to_owned(), format!("file:{}", self.key_file().display())]);
        }
        words
    }

    fn log(&self, name: &str) -> Result<(PathBuf, File), Failure> {
        let path = self.output().join(name);
        let file =
            File::create(&path).map_err(|error| Failure::io(format!("make {}", path.display()), &error))?;
        Ok((path, file))
    }

    fn start(&self, name: &'static str) -> Result<Service, Failure> {
        let mut command = Self::program()?;
        command.args([
            "serve",
            "--resp",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
            "--audit",
            "on",
            "--memory",
            "64MiB",
            "--reserve",
            "1MiB",
        ]);
        command
            .args(self.place(&self.data()))
            .stdout(Stdio::piped())
            .stderr(self.log(&format!("{name}.stderr"))?.1);
        let mut child = command.spawn().map_err(|error| Failure::io("start a server", &error))?;
        let stdout = child.stdout.take().ok_or_else(|| broken("a server has no output"))?;
        let mut service = Service {
            child,
            stdout: BufReader::new(stdout),
            said: String::new(),
            resp: String::new(),
            http: None,
            name,
        };
        loop {
            let before = service.said.len();
            let read = service.stdout.read_line(&mut service.said);
            if read.map_err(|error| Failure::io("read what a server says", &error))? == 0 {
                return Err(broken("a server of the trial did not start"));
            }
            if let Some(ready) = service.said[before..].strip_prefix("ready on ") {
                service.resp = ready.split(',').next().unwrap_or_default().to_owned();
                service.http = ready.split("http on ").nth(1).map(|rest| rest.trim().to_owned());
                return Ok(service);
            }
        }
    }

    /// Two lives of a server: the first is killed while it writes, the second ends in good order.
    pub(super) fn work_with_server(&self, secrets: &Secrets) -> Result<(), Failure> {
        let mut first = self.start("server-1")?;
        let mut said = String::new();
        let mut remote = first.connect()?;
        log_in(&mut remote, secrets, &mut said)?;
        let keys = &secrets.of(Kind::Key)[..OF_SERVER];
        let values = &secrets.of(Kind::Value)[..OF_SERVER];
        remote.ask(&[b"CONFIG", b"SET", b"slowlog-log-slower-than", b"0"])?;
        for (key, value) in keys.iter().zip(values).take(BEFORE_THE_KILL) {
            remote.ask(&[b"SET", key.as_bytes(), value.as_bytes()])?;
        }
        make_mistakes(&mut remote, secrets, &mut said)?;
        first.ask_about_itself(&mut remote, &mut said)?;
        for (key, value) in keys.iter().zip(values).skip(BEFORE_THE_KILL) {
            remote.send(&[b"SET", key.as_bytes(), value.as_bytes()])?;
        }
        // SIGKILL, with all of these under way.
        first.end(self, Signal::KILL)?;
        copy_folder(&self.data(), &self.killed())?;
        let mut second = self.start("server-2")?;
        let mut remote = second.connect()?;
        remote.ask(&[
            b"AUTH",
            secrets.of(Kind::User)[0].as_bytes(),
            secrets.of(Kind::Password)[0].as_bytes(),
        ])?;
        for (key, value) in keys.iter().zip(values).skip(BEFORE_THE_KILL) {
            remote.ask(&[b"SET", key.as_bytes(), value.as_bytes(), b"EX", b"100"])?;
        }
        second.ask_about_itself(&mut remote, &mut said)?;
        drop(remote);
        second.end(self, Signal::TERM)?;
        Ok(write_text(&self.output().join("replies"), &said)?)
    }

    /// Commands that look at the files, and mistakes with secrets in them: all that they print.
    pub(super) fn work_with_commands(&self, secrets: &Secrets) -> Result<(), Failure> {
        let (key, value) = (&secrets.of(Kind::Key)[0], &secrets.of(Kind::Value)[0]);
        let gone = format!("{key}{value}");
        // `inspect` takes no lock and changes nothing: the copy stays as the kill has left it.
        let commands: [(&[&str], PathBuf); 8] = [
            (&["inspect"], self.killed()),
            (&["inspect", "log", "--entries", "--json"], self.killed()),
            (&["inspect", "manifest"], self.data()),
            (&["inspect", "table", "--entries"], self.data()),
            (&["verify"], self.data()),
            (&["audit", "verify"], self.data()),
            (&["get", &gone], self.data()),
            (&["put", key, value, &gone], self.data()),
        ];
        for (number, (words, data)) in commands.into_iter().enumerate() {
            let mut command = Self::program()?;
            command.args(words).args(self.place(&data));
            command.stdout(self.log(&format!("command-{number}.stdout"))?.1);
            command.stderr(self.log(&format!("command-{number}.stderr"))?.1);
            command.status().map_err(|error| Failure::io("run a command", &error))?;
        }
        Ok(())
    }
}

/// As the files are at this moment.
fn copy_folder(from: &Path, to: &Path) -> Result<(), Failure> {
    make_folder(to)?;
    let doing = |error| Failure::io(format!("copy {}", from.display()), &error);
    for entry in std::fs::read_dir(from).map_err(doing)? {
        let entry = entry.map_err(doing)?;
        let to = to.join(entry.file_name());
        if entry.file_type().map_err(doing)?.is_dir() {
            copy_folder(&entry.path(), &to)?;
        } else {
            std::fs::copy(entry.path(), &to).map_err(doing)?;
        }
    }
    Ok(())
}

fn broken(what: &str) -> Failure {
    Failure::new(Exit::Unavailable, format!("{what}; look at what it said with --keep"))
}

impl Service {
    fn connect(&self) -> Result<Remote, Failure> {
        let url = format!("redis://{}", self.resp).parse().map_err(|_| broken("a server has no address"))?;
        Remote::connect(&url, 0, None, &ClientTls::default())
    }

    /// What everybody sees who looks after a server.
    fn ask_about_itself(&mut self, remote: &mut Remote, said: &mut String) -> Result<(), Failure> {
        for request in [
            &[&b"INFO"[..], b"everything"][..],
            &[b"SLOWLOG", b"GET", b"-1"],
            &[b"MEMORY", b"DOCTOR"],
            &[b"LATENCY", b"DOCTOR"],
            &[b"DBSIZE"],
        ] {
            tell(&remote.exchange(request)?, said);
        }
        for path in ["metrics", "livez", "readyz"] {
            if let Some(address) = &self.http {
                said.push_str(
                    &fetch(address, path).map_err(|error| Failure::io("ask a server over HTTP", &error))?,
                );
            }
        }
        Ok(())
    }

    fn end(mut self, trial: &Trial, signal: Signal) -> Result<(), Failure> {
        let ended = Pid::from_raw(self.child.id().cast_signed())
            .map_or(Ok(()), |id| kill_process(id, signal).map_err(std::io::Error::from));
        ended
            .and_then(|()| self.stdout.read_to_string(&mut self.said).map(drop))
            .and_then(|()| self.child.wait().map(drop))
            .map_err(|error| Failure::io("end a server", &error))?;
        Ok(write_text(&trial.output().join(format!("{}.stdout", self.name)), &self.said)?)
    }
}

/// Users, right and wrong passwords.
fn log_in(remote: &mut Remote, secrets: &Secrets, said: &mut String) -> Result<(), Failure> {
    let people = secrets.of(Kind::User).iter().zip(secrets.of(Kind::Password));
    for ((user, password), wrong) in people.zip(secrets.of(Kind::WrongPassword)) {
        let word = format!(">{password}");
        remote.ask(&[b"ACL", b"SETUSER", user.as_bytes(), b"on", word.as_bytes(), b"~*", b"+@all"])?;
        tell(&remote.exchange(&[b"AUTH", user.as_bytes(), wrong.as_bytes()])?, said);
        tell(&remote.ask(&[b"AUTH", user.as_bytes(), password.as_bytes()])?, said);
    }
    Ok(())
}

/// Everything that is refused with a secret in it.
fn make_mistakes(remote: &mut Remote, secrets: &Secrets, said: &mut String) -> Result<(), Failure> {
    let (key, value) = (secrets.of(Kind::Key)[0].as_bytes(), secrets.of(Kind::Value)[0].as_bytes());
    for request in [
        &[&b"INCR"[..], key][..],
        &[b"SET", key, value, value],
        &[b"GET", key, value],
        &[b"EXPIRE", key, value],
        &[b"GETRANGE", key, value, value],
        &[b"SELECT", value],
        &[b"CONFIG", b"SET", key, value],
        &[b"EVAL", value, b"1", key],
        &[b"NOSUCH", key, value],
    ] {
        tell(&remote.exchange(request)?, said);
    }
    Ok(())
}

fn fetch(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(HTTP_TIMEOUT))?;
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A reply's own bytes, each part on a line.
fn tell(reply: &Reply, out: &mut String) {
    match reply {
        Reply::Simple(text) | Reply::BigNumber(text) | Reply::Error(text) => out.push_str(text),
        Reply::Bulk(bytes) | Reply::Verbatim { text: bytes, .. } => {
            out.push_str(&String::from_utf8_lossy(bytes));
        }
        Reply::Array(parts) | Reply::Set(parts) | Reply::Push(parts) => {
            for part in parts {
                tell(part, out);
            }
        }
        Reply::Map(pairs) => {
            for (key, value) in pairs {
                tell(key, out);
                tell(value, out);
            }
        }
        other => {
            let _ = write!(out, "{other:?}");
        }
    }
    out.push('\n');
}
