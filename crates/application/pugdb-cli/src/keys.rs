//! `get`, `put`, `delete`, `exists`: one key.

use pugdb::{Change, EntryOptions, Value};

use crate::arguments::{DeleteArguments, ExistsArguments, GetArguments, PutArguments};
use crate::input;
use crate::outcome::{Exit, Failure};
use crate::output::{self, Answer};
use crate::target::{Access, Place};

pub(crate) fn get(arguments: &GetArguments) -> Result<Exit, Failure> {
    let key = input::key(&arguments.key, arguments.spelling)?;
    let value = match arguments.target.open(Access::Existing)? {
        Place::Local(local) => local.existing()?.get(&key)?.map(Value::into_bytes),
        Place::Remote(mut remote) => remote.get(&key)?,
    };
    let value = value.ok_or_else(no_such_key)?;
    let mut stdout = Answer::new();
    stdout.write(&value)?;
    if output::stdout_is_terminal() {
        stdout.write(b"\n")?;
    }
    stdout.finish()?;
    Ok(Exit::Done)
}

pub(crate) fn put(arguments: &PutArguments) -> Result<Exit, Failure> {
    let (key, value) = input::key_and_value(&arguments.key, &arguments.value, arguments.spelling)?;
    let expire_ms = arguments.expire_ms.or(arguments.expire_in.map(|seconds| seconds.saturating_mul(1_000)));
    match arguments.target.open(Access::Create)? {
        Place::Local(local) => {
            let expires_at = expire_ms.map(|ms| local.db.now().plus_ms(ms));
            let options = EntryOptions { expires_at, ..EntryOptions::default() };
            local.for_writing()?.put_with(&key, &value, options)?;
            local.settle()?;
        }
        Place::Remote(mut remote) => remote.put(&key, &value, expire_ms)?,
    }
    Ok(Exit::Done)
}

pub(crate) fn delete(arguments: &DeleteArguments) -> Result<Exit, Failure> {
    let key = input::key(&arguments.key, arguments.spelling)?;
    let existed = match arguments.target.open(Access::Existing)? {
        Place::Local(local) => {
            let existed = local.existing()?.update(&key, |old| {
                let change = if old.is_some() { Change::Delete } else { Change::Keep };
                Ok((change, old.is_some()))
            })?;
            local.settle()?;
            existed
        }
        Place::Remote(mut remote) => remote.count(&[b"DEL", &key])? > 0,
    };
    if existed { Ok(Exit::Done) } else { Err(no_such_key()) }
}

pub(crate) fn exists(arguments: &ExistsArguments) -> Result<Exit, Failure> {
    let key = input::key(&arguments.key, arguments.spelling)?;
    let exists = match arguments.target.open(Access::Existing)? {
        Place::Local(local) => local.existing()?.exists(&key)?,
        Place::Remote(mut remote) => remote.count(&[b"EXISTS", &key])? > 0,
    };
    output::answer(if exists { "1" } else { "0" })?;
    Ok(if exists { Exit::Done } else { Exit::NotFound })
}

fn no_such_key() -> Failure {
    Failure::new(Exit::NotFound, "there is no such key")
}
