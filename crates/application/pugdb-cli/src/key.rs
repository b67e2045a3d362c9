//! `key`: the keys of an encrypted database.

use clap::{Args, Subcommand};
use pugdb::keys::{KeyAge, Rotation, Vault};
use pugdb::{Database, Timestamp};
use serde_json::{Value, json};

use crate::arguments::Target;
use crate::outcome::{Exit, Failure};
use crate::output::{Answer, Format, answer_json};
use crate::target::Access;
use crate::text::{hex, human_bytes};

/// Show and change the keys of an encrypted database
#[derive(Args, Debug)]
#[command(after_help = "\
A database is encrypted from its beginning: name a root key when it is made. No command shows a key.

  key status    which keys there are and how old, where the root key is kept, from whom that protects the data
  key rotate    a new root key: the keyring is sealed anew and no data is written; older copies of the keyring open no more
  key renew     new keys, too, for all files that are made from now on; files that are there keep theirs until they are merged

They work on the directory, so they need --data, and no server may run on it.

Examples:
  pugdb put ada 1815 --root-key file:/etc/pugdb/orders.key      a new database, encrypted; the file is made
  pugdb key status --root-key file:/etc/pugdb/orders.key
  PUGDB_ROOT_KEY=env:ORDERS_KEY pugdb key rotate")]
pub(crate) struct KeyCommandArguments {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Print which keys there are, how old they are and what they protect
    Status(KeyTarget),
    /// Take a new root key and destroy the old one; no data is written
    Rotate(KeyTarget),
    /// As rotate, and take new keys for all files that are made from now on
    Renew(KeyTarget),
}

#[derive(Args, Debug)]
struct KeyTarget {
    #[command(flatten)]
    target: Target,
}

impl KeyCommandArguments {
    pub(crate) fn target_mut(&mut self) -> &mut Target {
        match &mut self.command {
            KeyCommand::Status(arguments) | KeyCommand::Rotate(arguments) | KeyCommand::Renew(arguments) => {
                &mut arguments.target
            }
        }
    }
}

pub(crate) fn key(arguments: &KeyCommandArguments, format: Format) -> Result<Exit, Failure> {
    match &arguments.command {
        KeyCommand::Status(place) => {
            let db = place.open()?;
            status(&db, &*keys(&db)?, format)
        }
        KeyCommand::Rotate(place) => place.change(Vault::rotate, format),
        KeyCommand::Renew(place) => place.change(Vault::renew, format),
    }
}

impl KeyTarget {
    fn open(&self) -> Result<Database, Failure> {
        self.target.check_local("key")?;
        Ok(self.target.open_local(Access::Existing)?.db)
    }

    fn change(
        &self,
        change: impl FnOnce(&Vault) -> pugdb::Result<Rotation>,
        format: Format,
    ) -> Result<Exit, Failure> {
        let db = self.open()?;
        let keys = keys(&db)?;
        let rotation = change(&keys)?;
        let provider = keys.status().provider;
        db.close()?;
        if format == Format::Json {
            answer_json(&json!({
                "keyring_generation": rotation.keyring_generation,
                "written_bytes": rotation.bytes,
                "old_root_key_destroyed": rotation.destroyed,
                "provider": provider,
            }))?;
            return Ok(Exit::Done);
        }
        let mut stdout = Answer::new();
        let (generation, bytes) = (rotation.keyring_generation, human_bytes(rotation.bytes));
        stdout.line(&format!("keyring of generation {generation}, {bytes} written, no data"))?;
        stdout.line(&if rotation.destroyed {
            format!("the old root key is gone from {provider}: copy it and KEYRING again, older copies open nothing any more")
        } else {
            format!("{provider} is not changed by this: who has it can open older copies of the keyring")
        })?;
        stdout.finish()?;
        Ok(Exit::Done)
    }
}

pub(crate) fn keys(db: &Database) -> Result<std::sync::Arc<Vault>, Failure> {
    db.keys().ok_or_else(|| Failure::usage("the database is not encrypted: it has no keys"))
}

fn status(db: &Database, keys: &Vault, format: Format) -> Result<Exit, Failure> {
    let status = keys.status();
    let mut names: Vec<(String, pugdb::KeyspaceId)> = Vec::new();
    for name in db.keyspaces()? {
        let keyspace = db.existing_keyspace(&name)?;
        names.extend(keyspace.map(|keyspace| (name, keyspace.id())));
    }
    let of = |id| status.keyspaces.iter().find(|keyspace| keyspace.keyspace == id);
    if format == Format::Json {
        let ages = |keys: &[KeyAge]| -> Vec<Value> {
            keys.iter().map(|key| json!({ "number": key.number, "made_at_ms": key.made_at.0 })).collect()
        };
        let keyspaces: Vec<Value> = names
            .iter()
            .filter_map(|(name, id)| {
                Some(json!({ "keyspace": name, "id": id.0, "keys": ages(&of(*id)?.keys) }))
            })
            .collect();
        answer_json(&json!({
            "database": status.database.to_string(),
            "algorithm": status.algorithm.name(),
            "keyring_generation": status.keyring_generation,
            "keyring_bytes": status.keyring_bytes,
            "provider": status.provider,
            "provider_destroys": status.destroys,
            "database_keys": ages(&status.database_keys),
            "keyspaces": keyspaces,
            "erased_subjects": status.erased_subjects,
            "erased_keyspaces": status.erased_keyspaces.len(),
            "erasures_left": status.erasures_left,
            "certificates_signed_with": hex(&status.signer),
        }))?;
        return Ok(Exit::Done);
    }
    let mut stdout = Answer::new();
    let (generation, bytes) = (status.keyring_generation, human_bytes(status.keyring_bytes));
    stdout.line(&format!(
        "new files are sealed with {}, keyring of generation {generation}, {bytes}",
        status.algorithm.name()
    ))?;
    stdout.line(&format!("the root key is in {}; it protects {}", status.provider, status.protects))?;
    let (subjects, keyspaces) = (status.erased_subjects, status.erased_keyspaces.len());
    stdout.line(&format!(
        "{subjects} subjects and {keyspaces} keyspaces are erased; {} more subjects fit",
        status.erasures_left
    ))?;
    stdout.line(&format!("certificates are signed with {}", hex(&status.signer)))?;
    let row = |name: String, keys: &[KeyAge]| {
        let newest = keys.last().map_or("-".to_owned(), |key| day(key.made_at));
        [name, keys.len().to_string(), newest]
    };
    let mut rows = vec![["keys of".to_owned(), "keys".to_owned(), "newest made on".to_owned()]];
    rows.push(row("the database".to_owned(), &status.database_keys));
    rows.extend(names.iter().filter_map(|(name, id)| Some(row(format!("keyspace {name}"), &of(*id)?.keys))));
    stdout.table(&rows)?;
    stdout.finish()?;
    Ok(Exit::Done)
}

/// The day of a moment, as ISO 8601 has it.
fn day(at: Timestamp) -> String {
    at.utc().chars().take_while(|letter| *letter != 'T').collect()
}
