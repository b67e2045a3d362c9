//! Who has the keys that `key` and `erase` are about: a database in a directory, or the server that has it open.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pugdb::keys::{Certificate, Held, KeyAge, Rotation, Vault};
use pugdb::{Database, ErasureReport, KeyspaceId, Rewritten, Timestamp};
use pugdb_wire::resp::Reply;

use crate::arguments::Target;
use crate::outcome::{Exit, Failure};
use crate::remote::Remote;
use crate::target::Access;
use crate::text::hex;

/// What reads or writes all there is may take so long.
const PATIENCE: Duration = Duration::from_hours(24);

pub(crate) enum Keeper {
    Local(Database, Arc<Vault>),
    Remote(Box<Remote>),
}

/// What is done to a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    Begin,
    End,
}

/// What came of a rotation.
pub(crate) struct Rotated {
    pub(crate) keyring_generation: u64,
    pub(crate) written_bytes: u64,
    pub(crate) is_old_destroyed: bool,
    pub(crate) provider: String,
}

/// What there is to say of the keys.
pub(crate) struct Status {
    pub(crate) database: String,
    pub(crate) algorithm: String,
    pub(crate) keyring_generation: u64,
    pub(crate) keyring_bytes: u64,
    pub(crate) provider: String,
    pub(crate) protects: String,
    pub(crate) provider_destroys: bool,
    pub(crate) database_keys: Vec<Age>,
    pub(crate) keyspaces: Vec<SpaceKeys>,
    pub(crate) erased_subjects: u64,
    pub(crate) erased_keyspaces: u64,
    pub(crate) erasures_left: u64,
    pub(crate) signer: String,
}

pub(crate) struct SpaceKeys {
    pub(crate) name: String,
    pub(crate) id: u64,
    pub(crate) keys: Vec<Age>,
}

/// A key, by its number and when it was made.
pub(crate) struct Age {
    pub(crate) number: u64,
    pub(crate) made_at: Timestamp,
}

/// Something under legal hold.
pub(crate) struct HeldName {
    pub(crate) kind: String,
    /// A keyspace's name; of a subject what stands for it.
    pub(crate) name: String,
    pub(crate) since: Timestamp,
}

pub(crate) fn keys(db: &Database) -> Result<Arc<Vault>, Failure> {
    db.keys().ok_or_else(|| Failure::usage("the database is not encrypted: it has no keys"))
}

pub(crate) fn no_keyspace(name: &str) -> Failure {
    Failure::new(Exit::NotFound, format!("there is no keyspace {name:?}"))
}

impl Keeper {
    pub(crate) fn of(target: &Target) -> Result<Self, Failure> {
        if let Some(remote) = target.connect()? {
            return Ok(Self::Remote(Box::new(remote)));
        }
        let db = target.open_local(Access::Existing)?.db;
        let vault = keys(&db)?;
        Ok(Self::Local(db, vault))
    }

    pub(crate) fn rotate(&mut self) -> Result<Rotated, Failure> {
        self.change(Vault::rotate, b"KEY-ROTATE")
    }

    pub(crate) fn renew(&mut self) -> Result<Rotated, Failure> {
        self.change(Vault::renew, b"KEY-RENEW")
    }

    fn change(
        &mut self,
        change: impl FnOnce(&Vault) -> pugdb::Result<Rotation>,
        command: &[u8],
    ) -> Result<Rotated, Failure> {
        match self {
            Self::Local(_, vault) => {
                let rotation = change(vault)?;
                Ok(Rotated {
                    keyring_generation: rotation.keyring_generation,
                    written_bytes: rotation.bytes,
                    is_old_destroyed: rotation.destroyed,
                    provider: vault.status().provider,
                })
            }
            Self::Remote(remote) => remote.ask_about_keys(&[command], |reply| {
                let mut fields = Fields::of(reply)?;
                Some(Rotated {
                    keyring_generation: fields.number("keyring_generation")?,
                    written_bytes: fields.number("written_bytes")?,
                    is_old_destroyed: fields.number("old_root_key_destroyed")? != 0,
                    provider: fields.text("provider")?,
                })
            }),
        }
    }

    pub(crate) fn rewrite(&mut self, older_than: Option<Duration>) -> Result<Rewritten, Failure> {
        match self {
            Self::Local(db, _) => Ok(db.rewrite(older_than)?),
            Self::Remote(remote) => {
                remote.wait_up_to(PATIENCE)?;
                let age = older_than.map(|age| age.as_secs().to_string());
                let words: Vec<&[u8]> =
                    [&b"KEY-REWRITE"[..]].into_iter().chain(age.as_ref().map(String::as_bytes)).collect();
                remote.ask_about_keys(&words, |reply| {
                    let mut fields = Fields::of(reply)?;
                    Some(Rewritten {
                        files: fields.number("rewritten_files")?,
                        bytes: fields.number("rewritten_bytes")?,
                        left_files: fields.number("left_files")?,
                        left_bytes: fields.number("left_bytes")?,
                    })
                })
            }
        }
    }

    pub(crate) fn erase_subjects(&mut self, names: &[String]) -> Result<Certificate, Failure> {
        match self {
            Self::Local(db, _) => Ok(db.erase_subjects(names)?),
            Self::Remote(remote) => remote.erase(b"ERASE-SUBJECT", names),
        }
    }

    pub(crate) fn erase_keyspace(&mut self, name: &str) -> Result<Certificate, Failure> {
        match self {
            Self::Local(db, _) => db.erase_keyspace(name)?.ok_or_else(|| no_keyspace(name)),
            Self::Remote(remote) => remote.erase(b"ERASE-KEYSPACE", &[name.to_owned()]),
        }
    }

    /// How many were not so before.
    pub(crate) fn hold_subjects(&mut self, names: &[String], hold: Hold) -> Result<u64, Failure> {
        match self {
            Self::Local(_, vault) => {
                let change = if hold == Hold::Begin { Vault::hold_subject } else { Vault::release_subject };
                names
                    .iter()
                    .try_fold(0, |changed, name| Ok(changed + u64::from(change(vault, name.as_bytes())?)))
            }
            Self::Remote(remote) => {
                let command: &[u8] = if hold == Hold::Begin { b"HOLD-SUBJECT" } else { b"RELEASE-SUBJECT" };
                let names = names.iter().map(String::as_bytes);
                let words: Vec<&[u8]> = [command].into_iter().chain(names).collect();
                remote.ask_about_keys(&words, |reply| number(&reply))
            }
        }
    }

    /// How many were not so before.
    pub(crate) fn hold_keyspace(&mut self, name: &str, hold: Hold) -> Result<u64, Failure> {
        match self {
            Self::Local(db, vault) => {
                let id = db.existing_keyspace(name)?.ok_or_else(|| no_keyspace(name))?.id();
                let change = if hold == Hold::Begin { Vault::hold_keyspace } else { Vault::release_keyspace };
                Ok(u64::from(change(vault, id)?))
            }
            Self::Remote(remote) => {
                let command: &[u8] = if hold == Hold::Begin { b"HOLD-KEYSPACE" } else { b"RELEASE-KEYSPACE" };
                remote.ask_about_keys(&[command, name.as_bytes()], |reply| number(&reply))
            }
        }
    }

    pub(crate) fn held(&mut self) -> Result<Vec<HeldName>, Failure> {
        match self {
            Self::Local(db, vault) => {
                let names = keyspace_names(db)?;
                Ok(vault.held().into_iter().map(|held| held_name(held, &names)).collect())
            }
            Self::Remote(remote) => remote.ask_about_keys(&[b"HELD"], |reply| {
                let Reply::Array(rows) = reply else { return None };
                let row = |row| {
                    let Reply::Array(row) = row else { return None };
                    let [kind, name, since] = <[Reply; 3]>::try_from(row).ok()?;
                    Some(HeldName { kind: text(kind)?, name: text(name)?, since: Timestamp(number(&since)?) })
                };
                rows.into_iter().map(row).collect()
            }),
        }
    }

    pub(crate) fn verify_erasure(&mut self) -> Result<ErasureReport, Failure> {
        match self {
            Self::Local(db, _) => Ok(db.verify_erasure()?),
            Self::Remote(remote) => {
                remote.wait_up_to(PATIENCE)?;
                remote.ask_about_keys(&[b"VERIFY-ERASURE"], |reply| {
                    let (mut fields, mut report) = (Fields::of(reply)?, ErasureReport::default());
                    report.entries = fields.number("entries")?;
                    report.sealed = fields.number("sealed")?;
                    report.erased = fields.number("erased")?;
                    report.opened = fields.number("opened")?;
                    report.damaged = fields.number("damaged")?;
                    report.erased_keyspaces = usize::try_from(fields.number("erased_keyspaces")?).ok()?;
                    Some(report)
                })
            }
        }
    }

    pub(crate) fn status(&mut self) -> Result<Status, Failure> {
        match self {
            Self::Local(db, vault) => status_of(db, vault),
            Self::Remote(remote) => remote.ask_about_keys(&[b"KEY-STATUS"], read_status),
        }
    }

    /// Closes what was opened.
    pub(crate) fn close(self) -> Result<(), Failure> {
        if let Self::Local(db, _) = self {
            db.close()?;
        }
        Ok(())
    }
}

fn keyspace_names(db: &Database) -> Result<Vec<(KeyspaceId, String)>, Failure> {
    let mut names = Vec::new();
    for name in db.keyspaces()? {
        names.extend(db.existing_keyspace(&name)?.map(|keyspace| (keyspace.id(), name)));
    }
    Ok(names)
}

fn held_name(held: Held, names: &[(KeyspaceId, String)]) -> HeldName {
    let (kind, name, since) = match held {
        Held::Subject(digest, since) => ("subject", hex(&digest), since),
        Held::Keyspace(id, since) => {
            let name = names.iter().find(|(there, _)| *there == id);
            ("keyspace", name.map_or_else(|| format!("number {id}"), |(_, name)| name.clone()), since)
        }
    };
    HeldName { kind: kind.to_owned(), name, since }
}

fn status_of(db: &Database, vault: &Vault) -> Result<Status, Failure> {
    let status = vault.status();
    let ages =
        |keys: &[KeyAge]| keys.iter().map(|key| Age { number: key.number, made_at: key.made_at }).collect();
    let keyspaces = keyspace_names(db)?.into_iter().filter_map(|(id, name)| {
        let of_it = status.keyspaces.iter().find(|keyspace| keyspace.keyspace == id)?;
        Some(SpaceKeys { name, id: id.0.into(), keys: ages(&of_it.keys) })
    });
    let count = |count: usize| count as u64;
    Ok(Status {
        database: status.database.to_string(),
        algorithm: status.algorithm.name().to_owned(),
        keyring_generation: status.keyring_generation,
        keyring_bytes: status.keyring_bytes,
        provider: status.provider,
        protects: status.protects.to_owned(),
        provider_destroys: status.destroys,
        database_keys: ages(&status.database_keys),
        keyspaces: keyspaces.collect(),
        erased_subjects: count(status.erased_subjects),
        erased_keyspaces: count(status.erased_keyspaces.len()),
        erasures_left: count(status.erasures_left),
        signer: hex(&status.signer),
    })
}

fn read_status(reply: Reply) -> Option<Status> {
    let mut fields = Fields::of(reply)?;
    let space = |space| {
        let mut fields = Fields::of(space)?;
        Some(SpaceKeys {
            name: fields.text("keyspace")?,
            id: fields.number("id")?,
            keys: fields.list("keys")?.into_iter().map(age).collect::<Option<_>>()?,
        })
    };
    Some(Status {
        database: fields.text("database")?,
        algorithm: fields.text("algorithm")?,
        keyring_generation: fields.number("keyring_generation")?,
        keyring_bytes: fields.number("keyring_bytes")?,
        provider: fields.text("provider")?,
        protects: fields.text("protects")?,
        provider_destroys: fields.number("provider_destroys")? != 0,
        database_keys: fields.list("database_keys")?.into_iter().map(age).collect::<Option<_>>()?,
        keyspaces: fields.list("keyspaces")?.into_iter().map(space).collect::<Option<_>>()?,
        erased_subjects: fields.number("erased_subjects")?,
        erased_keyspaces: fields.number("erased_keyspaces")?,
        erasures_left: fields.number("erasures_left")?,
        signer: fields.text("certificates_signed_with")?,
    })
}

fn age(key: Reply) -> Option<Age> {
    let mut fields = Fields::of(key)?;
    Some(Age { number: fields.number("number")?, made_at: Timestamp(fields.number("made_at_ms")?) })
}

/// Names and values of a reply, which a newer server may have more of.
struct Fields(Vec<(Reply, Reply)>);

impl Fields {
    /// RESP 2 has a list for them.
    fn of(reply: Reply) -> Option<Self> {
        match reply {
            Reply::Map(fields) => Some(Self(fields)),
            Reply::Array(parts) => {
                let (mut fields, mut parts) = (Vec::new(), parts.into_iter());
                while let Some(name) = parts.next() {
                    fields.push((name, parts.next()?));
                }
                Some(Self(fields))
            }
            _ => None,
        }
    }

    fn take(&mut self, name: &str) -> Option<Reply> {
        let is_it = |field: &Reply| matches!(field, Reply::Bulk(field) if *field == name);
        let place = self.0.iter().position(|(field, _)| is_it(field))?;
        Some(self.0.swap_remove(place).1)
    }

    fn number(&mut self, name: &str) -> Option<u64> {
        number(&self.take(name)?)
    }

    fn text(&mut self, name: &str) -> Option<String> {
        text(self.take(name)?)
    }

    fn list(&mut self, name: &str) -> Option<Vec<Reply>> {
        if let Reply::Array(list) = self.take(name)? { Some(list) } else { None }
    }
}

fn number(reply: &Reply) -> Option<u64> {
    if let Reply::Integer(number) = reply { u64::try_from(*number).ok() } else { None }
}

fn text(reply: Reply) -> Option<String> {
    let bytes: Bytes = match reply {
        Reply::Bulk(bytes) | Reply::Verbatim { text: bytes, .. } => bytes,
        _ => return None,
    };
    String::from_utf8(bytes.into()).ok()
}

impl Remote {
    /// Asks a `PUGDB` command, and reads its answer.
    fn ask_about_keys<T>(
        &mut self,
        words: &[&[u8]],
        read: impl FnOnce(Reply) -> Option<T>,
    ) -> Result<T, Failure> {
        let words: Vec<&[u8]> = [&b"PUGDB"[..]].into_iter().chain(words.iter().copied()).collect();
        match self.exchange(&words)? {
            Reply::Error(message) if message.ends_with("there is no keyspace of this name") => {
                Err(Failure::new(Exit::NotFound, "there is no keyspace of this name"))
            }
            Reply::Error(message) => Err(self.refused(&message)),
            reply => read(reply).ok_or_else(|| self.unexpected("PUGDB")),
        }
    }

    fn erase(&mut self, command: &[u8], names: &[String]) -> Result<Certificate, Failure> {
        let names = names.iter().map(String::as_bytes);
        let words: Vec<&[u8]> = [command].into_iter().chain(names).collect();
        let certificate = self.ask_about_keys(&words, text);
        let certificate = certificate.map_err(|mut failure| {
            if self.is_lost() {
                failure.message += "; it may be erased or not: erase it again, which does no harm";
            }
            failure
        })?;
        Certificate::parse(&certificate).map_err(Failure::from)
    }
}
