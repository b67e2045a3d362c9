//! Where a command works: opens a database on this machine, or connects to a server.

use std::path::{Path, PathBuf};

use pugdb::{Builder, Database, Error, ErrorKind, Keyspace, Persistence, limits};

use crate::arguments::Target;
use crate::audit;
use crate::made;
use crate::outcome::{Exit, Failure};
use crate::output;
use crate::password;
use crate::remote::Remote;
use crate::sizing::MemoryLimit;

pub(crate) const DATA_DEFAULT: &str = "./pugdb-data";
pub(crate) const RESP_DEFAULT: &str = "127.0.0.1:7379";
/// Where health and metrics are answered if nothing else is said, and the address is free.
pub(crate) const HTTP_DEFAULT: &str = "127.0.0.1:7080";
pub(crate) const KEYSPACE_DEFAULT: &str = "db0";
/// As `pugdb::limits` has it.
pub(crate) const MEMORY_DEFAULT: &str = "512MiB";
/// Where unfinished imports note how far they are.
pub(crate) const IMPORTS_KEYSPACE: &str = "pugdb.imports";

/// The log segment of a command that writes one key; a larger value makes it larger.
const SMALL_SEGMENT_BYTES: u64 = 1 << 20;
/// Every command that writes leaves a log segment behind. From this many on it turns them into a table.
const SEGMENTS_KEPT_MAX: usize = 16;

/// The advice on a directory that another process has, to a command that works on files only.
pub(crate) const STOP_FIRST: &str = "stop it first";

/// Whether the database has to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// It has to be: reading makes nothing.
    Existing,
    /// It is made if there is none.
    Create,
}

/// Where a command works.
pub(crate) enum Place {
    Local(Local),
    Remote(Box<Remote>),
}

/// A database of this machine, and the keyspace that is meant.
pub(crate) struct Local {
    pub(crate) db: Database,
    pub(crate) data: PathBuf,
    pub(crate) keyspace: String,
}

impl Target {
    pub(crate) fn open(&self, access: Access) -> Result<Place, Failure> {
        match self.connect()? {
            None => self.open_small(access).map(Place::Local),
            Some(remote) => Ok(Place::Remote(Box::new(remote))),
        }
    }

    /// The server that is meant, if one is.
    pub(crate) fn connect(&self) -> Result<Option<Remote>, Failure> {
        let Some(url) = &self.url else { return Ok(None) };
        let database = url.database_with(self.keyspace.as_deref()).map_err(Failure::usage)?;
        let credentials = password::credentials(self, url)?;
        Remote::connect(url, database, credentials.as_ref(), &self.tls).map(Some)
    }

    /// The directory of this machine that is meant.
    pub(crate) fn data(&self) -> PathBuf {
        self.data.clone().unwrap_or_else(|| PathBuf::from(DATA_DEFAULT))
    }

    /// For what works on files and not through a server.
    pub(crate) fn check_local(&self, command: &str) -> Result<(), Failure> {
        if self.url.is_some() {
            return Err(Failure::usage(format!(
                "{command} does not work through a server yet; stop the server and give its directory with --data"
            )));
        }
        Ok(())
    }

    /// For what works on files and not through a server, and reads only.
    pub(crate) fn check_local_reading(&self, command: &str) -> Result<(), Failure> {
        if self.url.is_some() {
            return Err(Failure::usage(format!(
                "{command} does not work through a server yet; give its directory with --data, and --read-only to read beside the server"
            )));
        }
        Ok(())
    }

    /// For a command that works on files only, and may write much.
    pub(crate) fn open_local(&self, access: Access) -> Result<Local, Failure> {
        self.open_with(access, Database::builder(), STOP_FIRST)
    }

    /// For a command that writes one key at most: it needs no log segment of full size, which is preallocated.
    fn open_small(&self, access: Access) -> Result<Local, Failure> {
        let builder = Database::builder().log_segment_bytes(SMALL_SEGMENT_BYTES);
        self.open_with(access, builder, &format!("use --url redis://{RESP_DEFAULT}"))
    }

    fn open_with(&self, access: Access, builder: Builder, if_in_use: &str) -> Result<Local, Failure> {
        let data = self.data();
        let is_made = access == Access::Create && !self.read_only && !made::is_there(&data);
        let mut builder = builder.create_if_missing(access == Access::Create);
        builder = if is_made {
            let builder = if self.no_encryption { builder } else { builder.audit(audit::options()) };
            made::seal(builder, &self.keys, self.no_encryption, &data)?
        } else {
            self.keys.apply(audit::as_it_was(builder, &data), &data)?
        };
        if let Some(memory) = self.memory {
            let usual = limits::MEMORY_BYTES_DEFAULT;
            builder = builder.memory_bytes(memory.choose(usual, MemoryLimit::ask()).bytes);
        }
        let db = if self.read_only {
            builder.open_read_only(&data).map_err(|error| describe(error, &data, if_in_use))?
        } else if access == Access::Existing {
            open_database(builder, &data, &format!("{if_in_use}, or read beside it with --read-only"))?
        } else if is_made {
            made::open(builder, &data, if_in_use)?
        } else {
            open_database(builder, &data, if_in_use)?
        };
        if db.recovery_report().created {
            for line in made::introduce(&db, &data) {
                output::note(&format!("pugdb: {line}"));
            }
        }
        let keyspace = self.keyspace.clone().unwrap_or_else(|| KEYSPACE_DEFAULT.to_owned());
        Ok(Local { db, data, keyspace })
    }
}

/// Opens a database. A failure names the directory, and one about a directory in use says what to do instead.
pub(crate) fn open_database(builder: Builder, data: &Path, if_in_use: &str) -> Result<Database, Failure> {
    builder.open(data).map_err(|error| describe(error, data, if_in_use))
}

pub(crate) fn describe(error: Error, data: &Path, if_in_use: &str) -> Failure {
    let message = error.to_string();
    if error.kind() == ErrorKind::NotFound && message.starts_with("there is no database") {
        return Failure::new(Exit::NotFound, format!("there is no database in {}", data.display()));
    }
    // The library's own advice after the semicolon is for programs.
    if let Some((in_use, _)) =
        message.split_once(';').filter(|(first, _)| first.contains("is in use by process"))
    {
        return Failure::new(Exit::Unavailable, format!("{in_use}; {if_in_use}"));
    }
    if message.ends_with("give its root key") {
        return Failure::new(Exit::Unavailable, format!("{message} by --root-key, such as file:PATH"));
    }
    if message.contains("has no keyring") {
        let advice = "for a checkpoint name the keyring of its database by --keyring";
        return Failure::new(Exit::NotFound, format!("{message}; {advice}"));
    }
    if message.contains("the file is encrypted") {
        let advice =
            "name its root key by --root-key, and for a checkpoint the keyring of its database by --keyring";
        return Failure::new(
            Exit::Unavailable,
            format!("the database in {} is encrypted; {advice}", data.display()),
        );
    }
    let failure = Failure::from(error);
    if message.contains(&*data.to_string_lossy()) { failure } else { failure.at(data.display()) }
}

impl Local {
    /// The keyspace, which has to be there.
    pub(crate) fn existing(&self) -> Result<Keyspace, Failure> {
        self.db
            .existing_keyspace(&self.keyspace)?
            .ok_or_else(|| Failure::new(Exit::NotFound, format!("there is no keyspace {:?}", self.keyspace)))
    }

    /// The keyspace, made if there is none.
    pub(crate) fn for_writing(&self) -> Result<Keyspace, Failure> {
        self.for_writing_to(&self.keyspace)
    }

    /// A keyspace by its name, made if there is none.
    pub(crate) fn for_writing_to(&self, name: &str) -> Result<Keyspace, Failure> {
        if name == IMPORTS_KEYSPACE {
            return Err(Failure::usage(format!(
                "the keyspace {name} is PugDB's own: unfinished imports note in it how far they are"
            )));
        }
        let keyspace = self.db.keyspace(name)?;
        if keyspace.engine().persistence() != Persistence::Durable {
            return Err(Failure::usage(
                "the keyspace is kept in memory only: what this command writes would be gone at its end",
            ));
        }
        Ok(keyspace)
    }

    /// After a write of one key, which is durable already: keeps the log short, and with it the next open.
    pub(crate) fn settle(&self) -> Result<(), Failure> {
        if self.db.recovery_report().segments >= SEGMENTS_KEPT_MAX {
            self.db.close()?;
        }
        Ok(())
    }
}
