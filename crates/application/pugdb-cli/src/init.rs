//! `init`: makes a database, encrypted unless it is asked not to be.

use std::path::PathBuf;

use clap::Args;
use pugdb::Database;
use serde_json::json;

use crate::audit;
use crate::made;
use crate::outcome::{Exit, Failure};
use crate::output::{Answer, Format, answer_json};
use crate::root_key::{KeyArguments, RootKey};
use crate::target::{DATA_DEFAULT, STOP_FIRST};

/// Make a database, encrypted unless --no-encryption says otherwise
#[derive(Args, Debug)]
#[command(after_help = "\
Without --root-key a key file is made in pugdb/keys in the user's configuration directory ($XDG_CONFIG_HOME or ~/.config), named
after the database, for its owner alone. Every command finds it there by itself. Keep a copy of it where no copy of the data is:
without it nobody can read the data.

Examples:
  pugdb init
  pugdb init --data /var/lib/pugdb --root-key file:/etc/pugdb/orders.key
  pugdb init --root-key passphrase             asks for one; every start does
  pugdb init --root-key 'command:pass show pugdb'
  pugdb init --root-key keyring                the login keyring of the desktop
  pugdb init --root-key 'pkcs11:token=safe;object=orders?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/pugdb/pin'
  pugdb init --data scratch --no-encryption")]
pub(crate) struct InitArguments {
    /// The directory of the database; it must not hold one
    #[arg(long, value_name = "DIR", default_value = DATA_DEFAULT)]
    data: PathBuf,
    /// Where the root key is
    #[arg(long, help = "Where the root key is: file:PATH, which is made; keyring, the login keyring; pkcs11:..., a token; passphrase, which is asked for; env:VARIABLE or command:PROGRAM, 64 hexadecimal digits", value_name = "SOURCE", value_parser = RootKey::parse, conflicts_with = "no_encryption")]
    root_key: Option<RootKey>,
    /// Seal nothing: whoever reads the disk, or a copy of it, reads the data
    #[arg(long)]
    pub(crate) no_encryption: bool,
    /// Keep no audit log; a database that is not encrypted has none unless `serve --audit on` begins one
    #[arg(long)]
    no_audit: bool,
}

pub(crate) fn init(arguments: &InitArguments, format: Format) -> Result<Exit, Failure> {
    let data = &arguments.data;
    // An open would take it as it is.
    if made::is_there(data) {
        return Err(Failure::new(
            Exit::Unavailable,
            format!("there is a database in {} already", data.display()),
        ));
    }
    let is_audited = !arguments.no_encryption && !arguments.no_audit;
    let builder = if is_audited { Database::builder().audit(audit::options()) } else { Database::builder() };
    let keys = KeyArguments { root_key: arguments.root_key.clone(), keyring: None };
    let builder = made::seal(builder, &keys, arguments.no_encryption, data)?;
    let db = made::open(builder, data, STOP_FIRST)?;
    let provider = db.keys().map(|keys| keys.status().provider);
    let words = made::introduce(&db, data);
    db.close()?;
    if format == Format::Json {
        answer_json(&json!({
            "data": data.display().to_string(), "encrypted": provider.is_some(), "provider": provider,
            "audit": is_audited,
        }))?;
        return Ok(Exit::Done);
    }
    let mut stdout = Answer::new();
    for line in words {
        stdout.line(&line)?;
    }
    stdout.finish()?;
    Ok(Exit::Done)
}
