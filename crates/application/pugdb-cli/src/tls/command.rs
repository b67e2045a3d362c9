//! `tls`: the certificates that `serve` makes by itself.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use pugdb_server::CertificateInfo;
use serde_json::{Value, json};

use super::store::Store;
use crate::outcome::{Exit, Failure};
use crate::output::{Answer, Format, answer_json};

/// Show, renew and make certificates of TLS
#[derive(Args, Debug)]
#[command(after_help = "\
`pugdb serve --tls-address ADDRESS` makes an authority of its own and a certificate for itself, and renews that before it expires.
No command shows a key.

  tls show           what the two certificates say, and their fingerprints, to be compared with what a client was given
  tls renew          a new certificate for the server; a server that runs takes it at SIGHUP
  tls renew --authority   a new authority, too: every client has to be given its certificate, and those of clients end
  tls client NAME    a certificate for a client, with its key in the same file, for servers that ask for one (--tls-clients)

Examples:
  pugdb tls show
  pugdb tls client ada
  pugdb get key --url rediss://pug.example --tls-ca ca.pem --client-cert ada.pem
  redis-cli --tls --cacert ca.pem --cert ada.pem --key ada.pem -p 7380")]
pub(crate) struct TlsCommandArguments {
    #[command(subcommand)]
    command: TlsCommand,
}

#[derive(Debug, Subcommand)]
enum TlsCommand {
    /// Print what the certificates say, and their fingerprints
    Show(Directory),
    /// Make a new certificate for the server
    Renew(RenewArguments),
    /// Make a certificate for a client
    Client(ClientArguments),
}

#[derive(Args, Debug)]
struct Directory {
    /// Where the certificates are [default: pugdb/tls in the user's configuration directory]
    #[arg(long, value_name = "DIR")]
    tls_dir: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct RenewArguments {
    /// Make a new authority, too: no client trusts the server until it is given its certificate
    #[arg(long)]
    authority: bool,
    #[command(flatten)]
    directory: Directory,
}

#[derive(Args, Debug)]
struct ClientArguments {
    /// Who the client is: letters, digits, and . _ - @
    #[arg(value_parser = client_name)]
    name: String,
    /// The file to be made [default: NAME.pem]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// How long it is valid
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u64).range(1..=3650))]
    days: u64,
    #[command(flatten)]
    directory: Directory,
}

/// A name that is one everywhere: in a certificate, a file's name, a list of clients.
fn client_name(name: &str) -> Result<String, String> {
    let is_fine = (1..=64).contains(&name.len())
        && !name.starts_with(['.', '-'])
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'@'));
    if is_fine {
        Ok(name.to_owned())
    } else {
        Err("a client's name has 1 to 64 letters, digits, and . _ - @".to_owned())
    }
}

impl Directory {
    fn store(&self) -> Result<Store, Failure> {
        Store::choose(self.tls_dir.as_deref())
    }
}

pub(crate) fn tls(arguments: &TlsCommandArguments, format: Format) -> Result<Exit, Failure> {
    match &arguments.command {
        TlsCommand::Show(directory) => show(&directory.store()?, format),
        TlsCommand::Renew(arguments) => {
            let store = arguments.directory.store()?;
            // What is not there is made by `serve`, which knows its names.
            store.shown().map(|_| ()).or_else(|failure| {
                if arguments.authority && failure.exit != Exit::NotFound { Ok(()) } else { Err(failure) }
            })?;
            store.renew(arguments.authority)?;
            show(&store, format)
        }
        TlsCommand::Client(arguments) => client(arguments, format),
    }
}

fn show(store: &Store, format: Format) -> Result<Exit, Failure> {
    let (authority, server) = store.shown()?;
    let (ca, file) = (store.ca().display().to_string(), store.server().display().to_string());
    if format == Format::Json {
        answer_json(&json!({ "authority": as_json(&authority, &ca), "server": as_json(&server, &file) }))?;
        return Ok(Exit::Done);
    }
    let mut stdout = Answer::new();
    for (what, info, file) in [("authority", authority, ca), ("server", server, file)] {
        stdout.line(&format!("{what}: {file}"))?;
        if !info.names.is_empty() {
            stdout.line(&format!("  for {}", info.names.join(", ")))?;
        }
        stdout.line(&format!("  valid from {} until {}", info.not_before.utc(), info.not_after.utc()))?;
        stdout.line(&format!("  SHA-256 {}", info.fingerprint.with_colons()))?;
    }
    stdout.finish()?;
    Ok(Exit::Done)
}

fn client(arguments: &ClientArguments, format: Format) -> Result<Exit, Failure> {
    let store = arguments.directory.store()?;
    let path = arguments.out.clone().unwrap_or_else(|| PathBuf::from(format!("{}.pem", arguments.name)));
    let info = store.issue_client(&arguments.name, arguments.days, &path)?;
    let shown = path.display().to_string();
    if format == Format::Json {
        answer_json(&as_json(&info, &shown))?;
        return Ok(Exit::Done);
    }
    let mut stdout = Answer::new();
    let end = info.not_after.utc();
    stdout
        .line(&format!("{shown} has a certificate for {} and its key, valid until {end}", arguments.name))?;
    stdout.line(&format!("  SHA-256 {}", info.fingerprint.with_colons()))?;
    stdout.line(&format!("  give it to the client and to nobody else, with {}", store.ca().display()))?;
    stdout.line(&format!("  pugdb get KEY --url rediss://HOST --tls-ca ca.pem --client-cert {shown}"))?;
    stdout.finish()?;
    Ok(Exit::Done)
}

fn as_json(info: &CertificateInfo, file: &str) -> Value {
    json!({
        "file": file, "common_name": info.common_name, "names": info.names,
        "not_before_ms": info.not_before.0, "not_after_ms": info.not_after.0,
        "fingerprint": info.fingerprint.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_a_name_that_is_no_path() {
        for name in ["ada", "ada@pug.example", "A-1_b.c", &"a".repeat(64)] {
            client_name(name).unwrap();
        }
        for name in ["", "..", ".a", "-a", "a/b", "a b", "a\n", "käse", &"a".repeat(65)] {
            assert!(client_name(name).is_err(), "{name}");
        }
    }
}
