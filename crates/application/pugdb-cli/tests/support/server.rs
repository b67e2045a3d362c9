//! The real `pugdb serve` as a child process, and a RESP connection to it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use bytes::BytesMut;
use pugdb_wire::resp::{Reply, ReplyDecoder, ReplyLimits, encode_request};
use rustix::process::{Pid, Signal, kill_process};

/// The program, and nothing around it that changes what it does: no settings of this machine, none of the test's own
/// variables.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pugdb"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PUGDB_") {
            command.env_remove(name);
        }
    }
    command.env("PUGDB_CONFIG", "/dev/null");
    // What makes a database makes a key in the user's configuration directory: never in the real one.
    command.env("XDG_CONFIG_HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/config"));
    command
}

/// A server that is ready. It is killed when it is dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) stdout: BufReader<ChildStdout>,
    pub(crate) address: SocketAddr,
    /// The first lines: version, directory, recovery report; of TLS, if there is any; then where it is ready.
    pub(crate) greeting: String,
}

impl Running {
    /// Starts a server on a free port and waits until it is ready.
    pub(crate) fn start(data: &Path, more: &[&str]) -> Self {
        let mut child = program()
            .args(["serve", "--resp", "127.0.0.1:0", "--data"])
            .arg(data)
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut greeting = String::new();
        let address = loop {
            let before = greeting.len();
            assert!(stdout.read_line(&mut greeting).unwrap() > 0, "no ready line: {greeting}");
            if let Some(ready) = greeting[before..].strip_prefix("ready on ") {
                break ready.split(',').next().unwrap().parse().unwrap();
            }
        };
        Self { child, stdout, address, greeting }
    }

    /// SIGKILL: nothing of it runs any more when this returns.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end and waits for that; its exit status and the rest of what it printed.
    pub(crate) fn stop(mut self, signal: Signal) -> (ExitStatus, String) {
        let id = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        kill_process(id, signal).unwrap();
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap(), rest)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    decoder: ReplyDecoder,
    input: BytesMut,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        // A server that hangs fails the test.
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        Self { stream, decoder: ReplyDecoder::new(ReplyLimits::default()), input: BytesMut::new() }
    }

    /// Sends requests without waiting for replies; false when the connection is gone.
    pub(crate) fn send(&mut self, requests: &[Vec<Vec<u8>>]) -> bool {
        let mut output = BytesMut::new();
        for request in requests {
            encode_request(request, &mut output);
        }
        self.send_bytes(&output)
    }

    /// Sends bytes as they are; false when the connection is gone.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// The next reply; `None` when the connection is gone.
    pub(crate) fn reply(&mut self) -> Option<Reply> {
        let mut chunk = [0; 16 << 10];
        loop {
            if let Some(reply) = self.decoder.decode(&mut self.input).unwrap() {
                return Some(reply);
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(read) => self.input.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("no reply in a minute")
                }
                Err(_) => return None,
            }
        }
    }

    pub(crate) fn ask(&mut self, request: &[&[u8]]) -> Reply {
        assert!(self.send(&[request.iter().map(|part| part.to_vec()).collect()]));
        self.reply().expect("the server answers")
    }
}
