//! `PUGDB`: what Redis has no words for. Erasure, legal holds, and the keys of an encrypted database, while it is served.
//!
//! The database records all of it in its audit log in the name of who acts, but for `KEY-REWRITE`, which changes no key.

use std::str;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pugdb::keys::{Certificate, Held, KeyAge, Rotation, Vault};
use pugdb::{KeyspaceId, Rewritten};
use pugdb_wire::resp::Reply;

use super::table::{Command, commands};
use super::{count, hex, text, verbatim};
use crate::arguments::{at, need_integer};
use crate::call::Call;
use crate::failure::Failure;

#[rustfmt::skip]
pub(super) const SUBCOMMANDS: &[Command] = commands! {
    "pugdb|erase-keyspace" 3 [Admin Dangerous NoMulti Walks Exclusive] [] Server "" Run(erase_keyspace) "keyspace" "Ends a keyspace and destroys its keys, for ever." "Database 3 is the keyspace db3. Returns the certificate. Not inside MULTI.";
    "pugdb|erase-subject" -3 [Admin Dangerous NoMulti Walks] [] Server "" Run(erase_subject) "subject [subject ...]" "Destroys the keys of subjects, for ever: what was written for them is ERASED." "All of them, or none. Returns the certificate. Not inside MULTI.";
    "pugdb|held" 2 [Admin Dangerous NoMulti] [] Server "" Run(held) "" "Lists what is under legal hold." "Kind, name and since when, in milliseconds since 1970. What stands for a subject's name is a keyed digest. Not inside MULTI.";
    "pugdb|hold-keyspace" 3 [Admin Dangerous NoMulti Walks] [] Server "" Run(hold_keyspace) "keyspace" "Keeps a keyspace from being erased, until it is released." "1, or 0 when it was held before. Not inside MULTI.";
    "pugdb|hold-subject" -3 [Admin Dangerous NoMulti Walks] [] Server "" Run(hold_subject) "subject [subject ...]" "Keeps subjects from being erased, until they are released." "How many were not held before. Not inside MULTI.";
    "pugdb|key-renew" 2 [Admin Dangerous NoMulti Walks] [] Server "" Run(key_renew) "" "As KEY-ROTATE, and new keys for all files that are made from now on." "Not inside MULTI.";
    "pugdb|key-rewrite" -2 [Admin Dangerous NoMulti Walks] [] Server "" Run(key_rewrite) "[seconds]" "Writes tables anew that are not sealed as they are to be, or whose key is older than this." "It answers when that is done. Not inside MULTI.";
    "pugdb|key-rotate" 2 [Admin Dangerous NoMulti Walks] [] Server "" Run(key_rotate) "" "Takes a new root key and destroys the old one; no data is written." "Not inside MULTI.";
    "pugdb|key-status" 2 [Admin Dangerous NoMulti Walks] [] Server "" Run(key_status) "" "Tells which keys there are and how old, and where the root key is." "No key is shown. Not inside MULTI.";
    "pugdb|release-keyspace" 3 [Admin Dangerous NoMulti Walks] [] Server "" Run(release_keyspace) "keyspace" "Ends the hold of a keyspace." "Not inside MULTI.";
    "pugdb|release-subject" -3 [Admin Dangerous NoMulti Walks] [] Server "" Run(release_subject) "subject [subject ...]" "Ends the hold of subjects." "How many were held. Not inside MULTI.";
    "pugdb|verify-erasure" 2 [Admin Dangerous NoMulti Walks] [] Server "" Run(verify_erasure) "" "Tries to open every value that was erased, and counts." "It reads all there is. Not inside MULTI.";
};

const NO_KEYS: Failure = Failure::new("ERR the database is not encrypted: it has no keys");
const NO_KEYSPACE: Failure = Failure::new("ERR there is no keyspace of this name");

fn keys(call: &Call<'_>) -> Result<Arc<Vault>, Failure> {
    call.shared.db.keys().ok_or(NO_KEYS)
}

/// `PUGDB ERASE-SUBJECT subject [subject ...]`
fn erase_subject(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let names = arguments.get(2..).unwrap_or_default();
    Ok(certificate(&call.shared.db.erase_subjects(names)?))
}

/// `PUGDB ERASE-KEYSPACE keyspace`
fn erase_keyspace(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let name = keyspace_name(arguments)?;
    let erased = call.shared.db.erase_keyspace(name)?.ok_or(NO_KEYSPACE)?;
    Ok(certificate(&erased))
}

/// Lines for people, with a signature for programs.
fn certificate(certificate: &Certificate) -> Reply {
    verbatim(certificate.to_string())
}

/// The keyspace that is named. What cannot be a name is none's.
fn keyspace_name(arguments: &[Bytes]) -> Result<&str, Failure> {
    str::from_utf8(at(arguments, 2)?).map_err(|_| NO_KEYSPACE)
}

/// `PUGDB HOLD-SUBJECT subject [subject ...]`
fn hold_subject(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    change_each(call, arguments, Vault::hold_subject)
}

/// `PUGDB RELEASE-SUBJECT subject [subject ...]`
fn release_subject(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    change_each(call, arguments, Vault::release_subject)
}

fn change_each(
    call: &Call<'_>,
    arguments: &[Bytes],
    change: impl Fn(&Vault, &[u8]) -> pugdb::Result<bool>,
) -> Result<Reply, Failure> {
    let (vault, mut changed) = (keys(call)?, 0);
    for name in arguments.iter().skip(2) {
        changed += usize::from(change(&vault, name)?);
    }
    Ok(count(changed))
}

/// `PUGDB HOLD-KEYSPACE keyspace`
fn hold_keyspace(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let keyspace = keyspace(call, arguments)?;
    Ok(count(usize::from(keys(call)?.hold_keyspace(keyspace)?)))
}

/// `PUGDB RELEASE-KEYSPACE keyspace`
fn release_keyspace(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let keyspace = keyspace(call, arguments)?;
    Ok(count(usize::from(keys(call)?.release_keyspace(keyspace)?)))
}

fn keyspace(call: &Call<'_>, arguments: &[Bytes]) -> Result<KeyspaceId, Failure> {
    let found = call.shared.db.existing_keyspace(keyspace_name(arguments)?)?;
    Ok(found.ok_or(NO_KEYSPACE)?.id())
}

/// `PUGDB HELD`
fn held(call: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    let names = keyspace_names(call)?;
    let row = |held| {
        let (kind, name, since) = match held {
            Held::Subject(digest, since) => ("subject", hex(&digest), since),
            Held::Keyspace(id, since) => {
                let name = names.iter().find(|(there, _)| *there == id);
                ("keyspace", name.map_or_else(|| format!("number {id}"), |(_, name)| name.clone()), since)
            }
        };
        Reply::Array(vec![text(kind), text(name), number(since.0)])
    };
    Ok(Reply::Array(keys(call)?.held().into_iter().map(row).collect()))
}

fn keyspace_names(call: &Call<'_>) -> Result<Vec<(KeyspaceId, String)>, Failure> {
    let mut names = Vec::new();
    for name in call.shared.db.keyspaces()? {
        names.extend(call.shared.db.existing_keyspace(&name)?.map(|keyspace| (keyspace.id(), name)));
    }
    Ok(names)
}

/// `PUGDB KEY-ROTATE`
fn key_rotate(call: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    rotated(call, Vault::rotate)
}

/// `PUGDB KEY-RENEW`
fn key_renew(call: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    rotated(call, Vault::renew)
}

fn rotated(
    call: &Call<'_>,
    change: impl FnOnce(&Vault) -> pugdb::Result<Rotation>,
) -> Result<Reply, Failure> {
    let vault = keys(call)?;
    let rotation = change(&vault)?;
    Ok(fields(vec![
        ("keyring_generation", number(rotation.keyring_generation)),
        ("written_bytes", number(rotation.bytes)),
        ("old_root_key_destroyed", yes(rotation.destroyed)),
        ("provider", text(vault.status().provider)),
    ]))
}

/// `PUGDB KEY-REWRITE [seconds]`
fn key_rewrite(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let age = match arguments.get(2..).unwrap_or_default() {
        [] => None,
        [seconds] => {
            let seconds = u64::try_from(need_integer(seconds)?);
            Some(Duration::from_secs(seconds.map_err(|_| Failure::new("ERR seconds cannot be negative"))?))
        }
        _ => return Err(Failure::arguments("pugdb|key-rewrite")),
    };
    keys(call)?;
    let Rewritten { files, bytes, left_files, left_bytes, .. } = call.shared.db.rewrite(age)?;
    Ok(fields(vec![
        ("rewritten_files", number(files)),
        ("rewritten_bytes", number(bytes)),
        ("left_files", number(left_files)),
        ("left_bytes", number(left_bytes)),
    ]))
}

/// `PUGDB KEY-STATUS`
fn key_status(call: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    let (status, names) = (keys(call)?.status(), keyspace_names(call)?);
    let ages = |keys: &[KeyAge]| {
        let key = |key: &KeyAge| {
            fields(vec![("number", number(key.number)), ("made_at_ms", number(key.made_at.0))])
        };
        Reply::Array(keys.iter().map(key).collect())
    };
    let keyspaces = names.into_iter().filter_map(|(id, name)| {
        let of_it = status.keyspaces.iter().find(|keyspace| keyspace.keyspace == id)?;
        let id = number(id.0.into());
        Some(fields(vec![("keyspace", text(name)), ("id", id), ("keys", ages(&of_it.keys))]))
    });
    Ok(fields(vec![
        ("database", text(status.database.to_string())),
        ("algorithm", text(status.algorithm.name())),
        ("keyring_generation", number(status.keyring_generation)),
        ("keyring_bytes", number(status.keyring_bytes)),
        ("provider", text(status.provider)),
        ("protects", text(status.protects)),
        ("provider_destroys", yes(status.destroys)),
        ("database_keys", ages(&status.database_keys)),
        ("keyspaces", Reply::Array(keyspaces.collect())),
        ("erased_subjects", count(status.erased_subjects)),
        ("erased_keyspaces", count(status.erased_keyspaces.len())),
        ("erasures_left", count(status.erasures_left)),
        ("certificates_signed_with", text(hex(&status.signer))),
    ]))
}

/// `PUGDB VERIFY-ERASURE`
fn verify_erasure(call: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    keys(call)?;
    let report = call.shared.db.verify_erasure()?;
    Ok(fields(vec![
        ("entries", number(report.entries)),
        ("sealed", number(report.sealed)),
        ("erased", number(report.erased)),
        ("opened", number(report.opened)),
        ("damaged", number(report.damaged)),
        ("erased_keyspaces", count(report.erased_keyspaces)),
    ]))
}

fn fields(fields: Vec<(&str, Reply)>) -> Reply {
    Reply::Map(fields.into_iter().map(|(name, value)| (text(name), value)).collect())
}

fn number(number: u64) -> Reply {
    Reply::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

fn yes(is_so: bool) -> Reply {
    count(usize::from(is_so))
}
