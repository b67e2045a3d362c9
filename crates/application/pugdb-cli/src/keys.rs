//! `get`, `put`, `delete`, `exists`: one key.

use bytes::Bytes;
use pugdb::{Change, Entry, EntryOptions, ErrorKind};
use serde_json::json;

use crate::arguments::{DeleteArguments, ExistsArguments, Form, GetArguments, PutArguments};
use crate::input;
use crate::outcome::{Exit, Failure};
use crate::output::{self, Answer, Format};
use crate::remote::PutOptions;
use crate::target::{Access, Place};
use crate::text::{base64, hex};
use crate::transfer::RowRef;

pub(crate) fn get(arguments: &GetArguments, format: Format) -> Result<Exit, Failure> {
    let form = arguments.spelling.form();
    let key = input::key(&arguments.key, form)?;
    let found = match arguments.target.open(Access::Existing)? {
        Place::Local(local) => local.existing()?.get_entry(&key)?.map(Shown::of),
        Place::Remote(mut remote) if format == Format::Json => match remote.get(&key)? {
            Some(value) => Some(Shown { value, expires_at_ms: remote.expires_at_ms(&key)?, meta: 0 }),
            None => None,
        },
        Place::Remote(mut remote) => {
            remote.get(&key)?.map(|value| Shown { value, expires_at_ms: None, meta: 0 })
        }
    };
    let shown = found.ok_or_else(no_such_key)?;
    let mut stdout = Answer::new();
    match form {
        _ if format == Format::Json => {
            shown.row(&key).write(&mut stdout).map_err(|error| Failure::stdout(&error))?;
        }
        Form::Hex => stdout.line(&hex(&shown.value))?,
        Form::Base64 => stdout.line(&base64(&shown.value))?,
        Form::Raw => stdout.write(&shown.value)?,
        Form::Plain | Form::Literal | Form::Escaped => {
            stdout.write(&shown.value)?;
            if output::stdout_is_terminal() {
                stdout.write(b"\n")?;
            }
        }
    }
    stdout.finish()?;
    Ok(Exit::Done)
}

/// What is known of a key that was read.
struct Shown {
    value: Bytes,
    expires_at_ms: Option<u64>,
    meta: u8,
}

impl Shown {
    fn of(entry: Entry) -> Self {
        let expires_at_ms = entry.expires_at.map(|at| at.0);
        Self { value: entry.value.into_bytes(), expires_at_ms, meta: entry.meta }
    }

    fn row<'a>(&'a self, key: &'a [u8]) -> RowRef<'a> {
        RowRef { key, value: &self.value, expires_at_ms: self.expires_at_ms, meta: self.meta }
    }
}

pub(crate) fn put(arguments: &PutArguments) -> Result<Exit, Failure> {
    let (key, value) = input::key_and_value(&arguments.key, &arguments.value, arguments.spelling.form())?;
    let expire_ms = arguments.expire_ms.or(arguments.expire_in.map(|seconds| seconds.saturating_mul(1_000)));
    match arguments.target.open(Access::Create)? {
        Place::Local(local) => {
            let expires_at = expire_ms.map(|ms| local.db.now().plus_ms(ms));
            let seal = arguments.subject.as_ref().map(|name| local.db.subject(name)).transpose()?;
            let options = EntryOptions { expires_at, seal, ..EntryOptions::default() };
            local.for_writing()?.put_with(&key, &value, options)?;
            local.settle()?;
        }
        Place::Remote(mut remote) => {
            let subject = arguments.subject.as_deref();
            remote.put(&key, &value, &PutOptions { expire_ms, subject })?;
        }
    }
    Ok(Exit::Done)
}

pub(crate) fn delete(arguments: &DeleteArguments, format: Format) -> Result<Exit, Failure> {
    let key = input::key(&arguments.key, arguments.spelling.form())?;
    let existed = match arguments.target.open(Access::Existing)? {
        Place::Local(local) => {
            let keyspace = local.existing()?;
            let existed = keyspace.update(&key, |old| {
                let change = if old.is_some() { Change::Delete } else { Change::Keep };
                Ok((change, old.is_some()))
            });
            let existed = match existed {
                // What nobody can read can be deleted all the same.
                Err(error) if error.kind() == ErrorKind::Erased => keyspace.delete(&key).map(|()| true),
                existed => existed,
            }?;
            local.settle()?;
            existed
        }
        Place::Remote(mut remote) => remote.count(&[b"DEL", &key])? > 0,
    };
    if format == Format::Json {
        output::answer_json(&json!({ "deleted": existed }))?;
        return Ok(if existed { Exit::Done } else { Exit::NotFound });
    }
    if existed { Ok(Exit::Done) } else { Err(no_such_key()) }
}

pub(crate) fn exists(arguments: &ExistsArguments, format: Format) -> Result<Exit, Failure> {
    let key = input::key(&arguments.key, arguments.spelling.form())?;
    let exists = match arguments.target.open(Access::Existing)? {
        Place::Local(local) => local.existing()?.exists(&key)?,
        Place::Remote(mut remote) => remote.count(&[b"EXISTS", &key])? > 0,
    };
    match format {
        Format::Text => output::answer(if exists { "1" } else { "0" })?,
        Format::Json => output::answer_json(&json!({ "exists": exists }))?,
    }
    Ok(if exists { Exit::Done } else { Exit::NotFound })
}

fn no_such_key() -> Failure {
    Failure::new(Exit::NotFound, "there is no such key")
}
