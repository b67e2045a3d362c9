//! `key`: the keys of an encrypted database.

use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pugdb::keys::KeyAge;
use pugdb::privacy::FileSeal;
use pugdb::{Database, Timestamp};
use serde_json::{Value, json};

use crate::arguments::Target;
use crate::audit;
use crate::keeper::{Age, Keeper, Rotated, Status, keys};
use crate::made;
use crate::outcome::{Exit, Failure};
use crate::output::{self, Answer, Format, answer_json};
use crate::target::{Access, STOP_FIRST, describe};
use crate::text::human_bytes;

/// How often something moves while nothing can be counted.
const TICK: Duration = Duration::from_millis(200);

/// Show and change the keys of an encrypted database
#[derive(Args, Debug)]
#[command(after_help = "\
Name a root key when a database is made, and it is encrypted from its beginning. No command shows a key.

  key status    which keys there are and how old, where the root key is kept, from whom that protects the data
  key list      each key of database and keyspaces, and what is sealed with it; without files nothing here needs it any more
  key rotate    a new root key: the keyring is sealed anew and no data is written; older copies of the keyring open no more
  key renew     new keys, too, for all files that are made from now on; files that are there keep theirs until they are merged
  key rewrite   write tables anew that are not sealed as they should be, or whose key is old
  key encrypt   encrypt a database that is not

They work on the directory, so no server may run on it; status, rotate, renew and rewrite work with --url through the server that has it open, too.

Examples:
  pugdb put ada 1815 --root-key file:/etc/pugdb/orders.key      a new database, encrypted; the file is made
  pugdb key status --root-key file:/etc/pugdb/orders.key
  pugdb key encrypt --data old --root-key file:/etc/pugdb/old.key
  pugdb key renew && pugdb key rewrite --older-than 30d
  pugdb key rotate --url redis://127.0.0.1:7379                 while it is served
  PUGDB_ROOT_KEY=env:ORDERS_KEY pugdb key rotate")]
pub(crate) struct KeyCommandArguments {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Print which keys there are, how old they are and what they protect
    Status(KeyTarget),
    /// Print each key, how old it is, and how many files and bytes are sealed with it
    List(KeyTarget),
    /// Take a new root key and destroy the old one; no data is written
    Rotate(KeyTarget),
    /// As rotate, and take new keys for all files that are made from now on
    Renew(KeyTarget),
    /// Encrypt a database that is not: new keys, then every table is written anew; begin again if it was cut off
    Encrypt(KeyTarget),
    /// Write tables and value files anew that are not sealed as their keyspace is to be, or whose key is old
    Rewrite(RewriteArguments),
}

#[derive(Args, Debug)]
struct RewriteArguments {
    #[command(flatten)]
    place: KeyTarget,
    /// Those too that are sealed with another key than the newest, if it was made longer ago than this: 30d, 12h, 0
    #[arg(long, value_name = "AGE", value_parser = parse_age)]
    older_than: Option<Duration>,
}

#[derive(Args, Debug)]
struct KeyTarget {
    #[command(flatten)]
    target: Target,
}

impl KeyCommandArguments {
    pub(crate) fn target_mut(&mut self) -> &mut Target {
        match &mut self.command {
            KeyCommand::Status(arguments)
            | KeyCommand::List(arguments)
            | KeyCommand::Rotate(arguments)
            | KeyCommand::Renew(arguments)
            | KeyCommand::Encrypt(arguments) => &mut arguments.target,
            KeyCommand::Rewrite(arguments) => &mut arguments.place.target,
        }
    }
}

pub(crate) fn key(arguments: &KeyCommandArguments, format: Format) -> Result<Exit, Failure> {
    match &arguments.command {
        KeyCommand::Status(place) => print_status(&Keeper::of(&place.target)?.status()?, format),
        KeyCommand::List(place) => {
            place.target.check_local_reading("key list")?;
            list(&place.target.open_local(Access::Existing)?.db, format)
        }
        KeyCommand::Rotate(place) => place.change(Keeper::rotate, format),
        KeyCommand::Renew(place) => place.change(Keeper::renew, format),
        KeyCommand::Encrypt(place) => place.encrypt(format),
        KeyCommand::Rewrite(arguments) => {
            rewrite(Keeper::of(&arguments.place.target)?, arguments.older_than, format)
        }
    }
}

impl KeyTarget {
    /// Gives it keys, unless it has some, and seals what is not.
    fn encrypt(&self, format: Format) -> Result<Exit, Failure> {
        self.target.check_local("key encrypt")?;
        let data = self.target.data();
        let builder = made::seal_existing(Database::builder(), &self.target.keys, &data)?;
        let opened = builder.audit(audit::options()).encrypt(&data);
        let db = opened.map_err(|error| describe(error, &data, STOP_FIRST))?;
        let vault = keys(&db)?;
        let status = vault.status();
        output::note(&format!(
            "pugdb: {} is encrypted from now on; its root key is in {}: {}. Copies that were made before, and blocks of the disk that files \
             have left behind, are not encrypted",
            data.display(),
            status.provider,
            status.safekeeping
        ));
        rewrite(Keeper::Local(db, vault), None, format)
    }

    fn change(
        &self,
        change: impl FnOnce(&mut Keeper) -> Result<Rotated, Failure>,
        format: Format,
    ) -> Result<Exit, Failure> {
        let mut keeper = Keeper::of(&self.target)?;
        let rotation = change(&mut keeper)?;
        let provider = &rotation.provider;
        keeper.close()?;
        if format == Format::Json {
            answer_json(&json!({
                "keyring_generation": rotation.keyring_generation,
                "written_bytes": rotation.written_bytes,
                "old_root_key_destroyed": rotation.is_old_destroyed,
                "provider": provider,
            }))?;
            return Ok(Exit::Done);
        }
        let mut stdout = Answer::new();
        let (generation, bytes) = (rotation.keyring_generation, human_bytes(rotation.written_bytes));
        stdout.line(&format!("keyring of generation {generation}, {bytes} written, no data"))?;
        stdout.line(&if rotation.is_old_destroyed {
            format!("the old root key is gone from {provider}: older copies of it and of KEYRING open nothing any more, so copy both again")
        } else {
            format!("{provider} is not changed by this: who has it can open older copies of the keyring")
        })?;
        stdout.finish()?;
        Ok(Exit::Done)
    }
}

/// Does it, and shows how far it is meanwhile.
fn rewrite(mut keeper: Keeper, older_than: Option<Duration>, format: Format) -> Result<Exit, Failure> {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(5));
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} tables are written anew") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(TICK);
    let done = keeper.rewrite(older_than);
    bar.finish_and_clear();
    let done = done?;
    keeper.close()?;
    if format == Format::Json {
        answer_json(&json!({
            "rewritten_files": done.files,
            "rewritten_bytes": done.bytes,
            "left_files": done.left_files,
            "left_bytes": done.left_bytes,
        }))?;
    } else {
        let mut stdout = Answer::new();
        stdout.line(&format!("{} files were written anew, {}", done.files, human_bytes(done.bytes)))?;
        if done.left_files > 0 {
            let (left, bytes) = (done.left_files, human_bytes(done.left_bytes));
            stdout.line(&format!(
                "{left} are as they were, {bytes}: beside damaged ones; see `pugdb verify`"
            ))?;
        }
        stdout.finish()?;
    }
    Ok(if done.left_files == 0 { Exit::Done } else { Exit::Partial })
}

/// A number of days, hours, minutes or seconds.
fn parse_age(text: &str) -> Result<Duration, String> {
    let (digits, unit) =
        text.split_at(text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len()));
    let seconds = match unit {
        "d" => 86_400,
        "h" => 3_600,
        "m" => 60,
        "s" => 1,
        "" if digits == "0" => 0,
        _ => return Err("an age is a number with d, h, m or s behind it, as 30d".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "an age begins with a number, as 30d".to_owned())?;
    Ok(Duration::from_secs(number.saturating_mul(seconds)))
}

fn print_status(status: &Status, format: Format) -> Result<Exit, Failure> {
    if format == Format::Json {
        let ages = |keys: &[Age]| -> Vec<Value> {
            keys.iter().map(|key| json!({ "number": key.number, "made_at_ms": key.made_at.0 })).collect()
        };
        let keyspaces: Vec<Value> = status
            .keyspaces
            .iter()
            .map(|of| json!({ "keyspace": of.name, "id": of.id, "keys": ages(&of.keys) }))
            .collect();
        answer_json(&json!({
            "database": status.database,
            "algorithm": status.algorithm,
            "keyring_generation": status.keyring_generation,
            "keyring_bytes": status.keyring_bytes,
            "provider": status.provider,
            "provider_destroys": status.provider_destroys,
            "database_keys": ages(&status.database_keys),
            "keyspaces": keyspaces,
            "erased_subjects": status.erased_subjects,
            "erased_keyspaces": status.erased_keyspaces,
            "erasures_left": status.erasures_left,
            "certificates_signed_with": status.signer,
        }))?;
        return Ok(Exit::Done);
    }
    let mut stdout = Answer::new();
    let (generation, bytes) = (status.keyring_generation, human_bytes(status.keyring_bytes));
    stdout.line(&format!(
        "new files are sealed with {}, keyring of generation {generation}, {bytes}",
        status.algorithm
    ))?;
    stdout.line(&format!("the root key is in {}; it protects {}", status.provider, status.protects))?;
    let (subjects, keyspaces) = (status.erased_subjects, status.erased_keyspaces);
    stdout.line(&format!(
        "{subjects} subjects and {keyspaces} keyspaces are erased; {} more subjects fit",
        status.erasures_left
    ))?;
    stdout.line(&format!("certificates are signed with {}", status.signer))?;
    let row = |name: String, keys: &[Age]| {
        let newest = keys.last().map_or("-".to_owned(), |key| day(key.made_at));
        [name, keys.len().to_string(), newest]
    };
    let mut rows = vec![["keys of".to_owned(), "keys".to_owned(), "newest made on".to_owned()]];
    rows.push(row("the database".to_owned(), &status.database_keys));
    rows.extend(status.keyspaces.iter().map(|of| row(format!("keyspace {}", of.name), &of.keys)));
    stdout.table(&rows)?;
    stdout.finish()?;
    Ok(Exit::Done)
}

/// One key, and what is sealed with it.
struct KeyRow {
    of: String,
    keyspace: Option<pugdb::KeyspaceId>,
    key: KeyAge,
    is_newest: bool,
    files: u64,
    bytes: u64,
}

fn list(db: &Database, format: Format) -> Result<Exit, Failure> {
    let status = keys(db)?.status();
    let report = db.privacy()?;
    let mut rows = Vec::new();
    let mut add = |of: &str, keyspace: Option<pugdb::KeyspaceId>, keys: &[KeyAge]| {
        for (place, key) in keys.iter().enumerate() {
            let sealed = report.files.iter().filter(|group| {
                let with = match group.seal {
                    FileSeal::Sealed(with) => with.generation,
                    FileSeal::Plain | FileSeal::Erased => None,
                };
                group.keyspace == keyspace && with == Some(key.number)
            });
            let (files, bytes) =
                sealed.fold((0, 0), |(files, bytes), group| (files + group.files, bytes + group.bytes));
            let is_newest = place + 1 == keys.len();
            rows.push(KeyRow { of: of.to_owned(), keyspace, key: *key, is_newest, files, bytes });
        }
    };
    add("the database", None, &status.database_keys);
    for space in &report.keyspaces {
        let keys = status.keyspaces.iter().find(|keys| keys.keyspace == space.id);
        add(&space.name, Some(space.id), keys.map_or(&[][..], |keys| &keys.keys));
    }
    let mut stdout = Answer::new();
    if format == Format::Json {
        for row in &rows {
            stdout.json(&json!({
                "keyspace": row.keyspace.map(|_| &row.of),
                "id": row.keyspace.map(|id| id.0),
                "number": row.key.number,
                "made_at_ms": row.key.made_at.0,
                "newest": row.is_newest,
                "files": row.files,
                "bytes": row.bytes,
            }))?;
        }
    } else {
        let mut table = vec![["keys of", "number", "made on", "files", "bytes"].map(str::to_owned)];
        table.extend(rows.iter().map(|row| {
            let number = format!("{}{}", row.key.number, if row.is_newest { ", newest" } else { "" });
            let of = row.keyspace.map_or_else(|| row.of.clone(), |_| format!("keyspace {}", row.of));
            [of, number, day(row.key.made_at), row.files.to_string(), human_bytes(row.bytes)]
        }));
        stdout.table(&table)?;
    }
    stdout.finish()?;
    Ok(Exit::Done)
}

/// The day of a moment, as ISO 8601 has it.
fn day(at: Timestamp) -> String {
    at.utc().chars().take_while(|letter| *letter != 'T').collect()
}
