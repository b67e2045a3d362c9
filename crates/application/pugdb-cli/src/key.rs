//! `key`: the keys of an encrypted database.

use clap::{Args, Subcommand};
use pugdb::keys::{KeyAge, Rotation, Vault};
use pugdb::{Database, Timestamp};
use serde_json::{Value, json};

use crate::arguments::Target;
use crate::outcome::{Exit, Failure};
use crate::output::{Answer, Format, answer_json};
use crate::target::Access;
use crate::text::human_bytes;

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

fn keys(db: &Database) -> Result<std::sync::Arc<Vault>, Failure> {
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

/// The day of a moment, as ISO 8601 has it (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn day(at: Timestamp) -> String {
    let days = at.0 / 86_400_000 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    format!("{:04}-{month:02}-{day:02}", year_of_era + era * 400 + u64::from(month <= 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        let days = [
            (0, "1970-01-01"),
            (951_782_400_000, "2000-02-29"),
            (1_767_225_600_000, "2026-01-01"),
            (1_795_737_599_999, "2026-11-26"),
        ];
        for (at, text) in days {
            assert_eq!(day(Timestamp(at)), text);
        }
    }
}
