//! Who to be on a server, and the password for it: from a file, the URL, the environment, or asked for. A command line is
//! seen by everybody on the machine, so a password there is taken with a warning.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{self, BufRead as _, IsTerminal as _, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::OnceLock;

use pugdb::rights::DEFAULT_USER;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::arguments::Target;
use crate::input::read_up_to;
use crate::outcome::Failure;
use crate::output;
use crate::settings::PASSWORD_VARIABLE;
use crate::url::ServerUrl;

/// A password, and the end of its line.
const FILE_BYTES_MAX: usize = 4096;

/// Who to be.
pub(crate) struct Credentials {
    pub(crate) user: String,
    pub(crate) password: Zeroizing<String>,
}

/// Who to be on this server; `None`: whoever everybody is.
pub(crate) fn credentials(target: &Target, url: &ServerUrl) -> Result<Option<Credentials>, Failure> {
    warn_of_arguments();
    let user = target.user.clone().or_else(|| url.user.clone());
    let given = match (&target.password_file, &url.password) {
        (Some(path), _) => Some(from_file(path)?),
        (None, Some(password)) => Some(password.clone()),
        (None, None) => from_environment()?,
    };
    let password = match given {
        Some(password) => password,
        None if user.is_none() => return Ok(None),
        None => asked_once(user.as_deref().unwrap_or(DEFAULT_USER))?,
    };
    Ok(Some(Credentials { user: user.unwrap_or_else(|| DEFAULT_USER.to_owned()), password }))
}

/// Whether an argument is an address with a password in it.
fn holds_password(argument: &[u8]) -> bool {
    let text = String::from_utf8_lossy(argument);
    let address = text.strip_prefix("--url=").unwrap_or(&text);
    let rest = ["redis://", "rediss://"].iter().find_map(|scheme| address.strip_prefix(scheme));
    let authority = rest.and_then(|rest| rest.rsplit_once('@'));
    authority.is_some_and(|(credentials, _)| credentials.contains(':'))
}

fn warn_of_arguments() {
    static WARNED: OnceLock<()> = OnceLock::new();
    if std::env::args_os().any(|argument| holds_password(argument.as_bytes())) && WARNED.set(()).is_ok() {
        output::note(&format!(
            "pugdb: everybody on this machine can see a password on a command line; use --password-file or {PASSWORD_VARIABLE}"
        ));
    }
}

fn from_environment() -> Result<Option<Zeroizing<String>>, Failure> {
    let Some(value) = std::env::var_os(PASSWORD_VARIABLE).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let text = text(value.as_bytes(), OsStr::new(PASSWORD_VARIABLE))?;
    Ok(Some(text))
}

/// The first line of a file; `-` is stdin.
pub(crate) fn from_file(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let failure = |error| Failure::io(format!("read the password in {}", path.display()), &error);
    let read = |reader: &mut dyn Read| read_up_to(&mut { reader }, FILE_BYTES_MAX).map_err(failure);
    let bytes = if path == Path::new("-") {
        read(&mut io::stdin().lock())?
    } else {
        read(&mut OpenOptions::new().read(true).open(path).map_err(failure)?)?
    };
    let bytes = Zeroizing::new(bytes.unwrap_or_default());
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return Err(Failure::usage(format!(
            "{} has no password of at most {FILE_BYTES_MAX} bytes in its first line",
            path.display()
        )));
    }
    text(line, path.as_os_str())
}

fn text(bytes: &[u8], place: &OsStr) -> Result<Zeroizing<String>, Failure> {
    let text = std::str::from_utf8(bytes).map(|text| Zeroizing::new(text.to_owned()));
    text.map_err(|_| Failure::usage(format!("the password in {} is not UTF-8", place.display())))
}

/// Asks a person, once: a connection that is made anew has the same answer.
fn asked_once(user: &str) -> Result<Zeroizing<String>, Failure> {
    static ASKED: OnceLock<Zeroizing<String>> = OnceLock::new();
    if let Some(known) = ASKED.get() {
        return Ok(known.clone());
    }
    let answer = ask(&format!("Password of {user}: "))?;
    Ok(ASKED.get_or_init(|| answer).clone())
}

/// The passphrase of a root key, asked for once. One that is `new` is asked for a second time: what nobody knows opens nothing.
pub(crate) fn asked_passphrase(is_new: bool) -> Result<Zeroizing<String>, Failure> {
    static ASKED: OnceLock<Zeroizing<String>> = OnceLock::new();
    if let Some(known) = ASKED.get() {
        return Ok(known.clone());
    }
    let advice = "name where it is, by --root-key passphrase:file:PATH or passphrase:env:VARIABLE";
    let question = if is_new { "New passphrase: " } else { "Passphrase: " };
    let answer = ask_or(question, advice)?;
    if is_new && *ask_or("Once more: ", advice)? != *answer {
        return Err(Failure::usage("the two passphrases differ; nothing was made"));
    }
    Ok(ASKED.get_or_init(|| answer).clone())
}

/// The PIN of a token, asked for once: each wrong one counts there.
#[cfg(feature = "pkcs11")]
pub(crate) fn asked_pin(token: &str) -> Result<Zeroizing<String>, Failure> {
    static ASKED: OnceLock<Zeroizing<String>> = OnceLock::new();
    if let Some(known) = ASKED.get() {
        return Ok(known.clone());
    }
    let advice = "say in the token's URI where its PIN is: pin-source=file:PATH or pin-source=env:VARIABLE";
    let answer = ask_or(&format!("PIN of {token}: "), advice)?;
    if answer.is_empty() {
        return Err(Failure::usage("no PIN was given, and none is tried"));
    }
    Ok(ASKED.get_or_init(|| answer).clone())
}

fn ask(question: &str) -> Result<Zeroizing<String>, Failure> {
    ask_or(question, &format!("give the password by --password-file or {PASSWORD_VARIABLE}"))
}

/// Asks on the terminal, which does not show the answer.
fn ask_or(question: &str, advice: &str) -> Result<Zeroizing<String>, Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::usage(format!("there is no terminal to ask on; {advice}")));
    }
    let failure = |error: io::Error| Failure::io("ask on the terminal", &error);
    output::question(question);
    let before = tcgetattr(&stdin).map_err(|error| failure(error.into()))?;
    let mut silent = before.clone();
    silent.local_modes -= LocalModes::ECHO;
    tcsetattr(&stdin, OptionalActions::Flush, &silent).map_err(|error| failure(error.into()))?;
    let mut line = Zeroizing::new(String::new());
    let read = stdin.lock().read_line(&mut line);
    let restored = tcsetattr(&stdin, OptionalActions::Now, &before);
    output::note("");
    read.map_err(failure)?;
    restored.map_err(|error| failure(error.into()))?;
    Ok(Zeroizing::new(line.trim_end_matches(['\r', '\n']).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_on_the_command_line_is_noticed() {
        for argument in ["redis://ada:x@h", "--url=redis://:x@h", "rediss://ada:x@h"] {
            assert!(holds_password(argument.as_bytes()), "{argument}");
        }
        for argument in ["redis://ada@h", "redis://h:1", "--url", "a:b@c", "@file"] {
            assert!(!holds_password(argument.as_bytes()), "{argument}");
        }
    }

    #[test]
    fn a_password_is_the_first_line_of_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let read = |content: &[u8]| {
            let path = dir.path().join("password");
            #[expect(clippy::disallowed_methods, reason = "a test makes its files by hand")]
            std::fs::write(&path, content).unwrap();
            from_file(&path)
        };
        assert_eq!(read(b"s3cret\nmore").unwrap().as_str(), "s3cret");
        assert_eq!(read(b"with blanks \r\n").unwrap().as_str(), "with blanks ");
        for none in [&b""[..], b"\n", b"\r\nx", b"\xff\n", &[b'x'; 5000]] {
            assert!(read(none).is_err());
        }
        assert!(from_file(&dir.path().join("nothing")).is_err());
    }
}
