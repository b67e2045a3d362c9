//! What the shell works on: one database or one connection, and the keyspace that was chosen.

use pugdb_wire::resp::Reply;

use crate::arguments::Target;
use crate::interrupt::Interrupt;
use crate::outcome::{Exit, Failure};
use crate::output::Format;
use crate::remote::Remote;
use crate::scan::Query;
use crate::target::{Access, KEYSPACE_DEFAULT, Local, Place};

/// Keys that are offered at a time.
const COMPLETED_KEYS_MAX: usize = 50;
/// Steps of a server's scan for them: completion must not read a large keyspace.
const COMPLETION_STEPS_MAX: usize = 8;

/// An open shell.
pub(super) struct Session {
    target: Target,
    pub(super) place: Place,
    pub(super) format: Format,
    /// A person types, and sees tables.
    pub(super) is_interactive: bool,
    pub(super) interrupt: Interrupt,
    /// The names of the server's commands, once they were asked for.
    server_commands: Option<Vec<String>>,
}

impl Session {
    pub(super) fn open(
        target: &Target,
        format: Format,
        is_interactive: bool,
        interrupt: Interrupt,
    ) -> Result<Self, Failure> {
        let place = target.open(Access::Create)?;
        Ok(Self { target: target.clone(), place, format, is_interactive, interrupt, server_commands: None })
    }

    /// Before each command: a lost connection is made anew, and a Ctrl-C of before is forgotten.
    pub(super) fn refresh(&mut self) -> Result<(), Failure> {
        self.interrupt.take();
        if matches!(&self.place, Place::Remote(remote) if remote.is_lost()) {
            self.place = self.target.open(Access::Existing)?;
        }
        Ok(())
    }

    /// The keyspace that was chosen.
    pub(super) fn keyspace(&self) -> String {
        match &self.place {
            Place::Local(local) => local.keyspace.clone(),
            Place::Remote(_) => {
                let path =
                    self.target.url.as_ref().and_then(|url| url.database).map(|number| format!("db{number}"));
                path.or_else(|| self.target.keyspace.clone()).unwrap_or_else(|| KEYSPACE_DEFAULT.to_owned())
            }
        }
    }

    /// Chooses another keyspace.
    pub(super) fn choose(&mut self, name: &str) -> Result<(), Failure> {
        match &mut self.place {
            Place::Local(local) => name.clone_into(&mut local.keyspace),
            Place::Remote(remote) => {
                let Some(url) = &mut self.target.url else { return Ok(()) };
                let mut other = url.clone();
                other.database = None;
                let number = other.database_with(Some(name)).map_err(Failure::usage)?;
                remote.ask(&[b"SELECT", number.to_string().as_bytes()])?;
                url.database = Some(number);
                self.target.keyspace = None;
            }
        }
        Ok(())
    }

    /// The database, if it is one of this machine.
    pub(super) fn local(&self) -> Option<&Local> {
        match &self.place {
            Place::Local(local) => Some(local),
            Place::Remote(_) => None,
        }
    }

    /// The server, if it is one.
    pub(super) fn remote(&mut self) -> Option<&mut Remote> {
        match &mut self.place {
            Place::Local(_) => None,
            Place::Remote(remote) => Some(remote),
        }
    }

    /// A failure when Ctrl-C came.
    pub(super) fn check_interrupt(&self) -> Result<(), Failure> {
        self.interrupt.check()
    }

    /// A few keys that begin so, for completion. Whatever goes wrong, there are none.
    pub(super) fn keys_of(&mut self, prefix: &[u8]) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        if let Place::Remote(remote) = &mut self.place {
            if remote.is_lost() {
                return keys;
            }
            let pattern = crate::scan::glob_of_prefix(prefix);
            let mut cursor = bytes::Bytes::from_static(b"0");
            for _ in 0..COMPLETION_STEPS_MAX {
                let Ok((next, found)) = remote.scan_step(&cursor, &pattern) else { break };
                keys.extend(found.iter().map(|key| key.to_vec()));
                if next.as_ref() == b"0" || keys.len() >= COMPLETED_KEYS_MAX {
                    break;
                }
                cursor = next;
            }
            keys.sort_unstable();
            keys.dedup();
            keys.truncate(COMPLETED_KEYS_MAX);
            return keys;
        }
        let query = Query { keys_only: true, limit: COMPLETED_KEYS_MAX, ..Query::of_prefix(prefix) };
        let collected = query.run(&mut self.place, &mut |row| {
            keys.push(row.key.to_vec());
            Ok(())
        });
        if collected.is_ok() { keys } else { Vec::new() }
    }

    /// The keyspaces there are, or those a server can have.
    pub(super) fn keyspaces(&self) -> Result<Vec<String>, Failure> {
        match &self.place {
            Place::Local(local) => Ok(local.db.keyspaces()?),
            Place::Remote(_) => Ok((0..16).map(|number| format!("db{number}")).collect()),
        }
    }

    /// The names of the server's commands, for completion.
    pub(super) fn server_commands(&mut self) -> Vec<String> {
        if let Some(known) = &self.server_commands {
            return known.clone();
        }
        let names = match self.remote().map(|remote| remote.exchange(&[b"COMMAND", b"LIST"])) {
            Some(Ok(Reply::Array(items))) => items,
            _ => Vec::new(),
        };
        let text = |reply| match reply {
            Reply::Bulk(name) => String::from_utf8(name.to_vec()).ok().map(|name| name.to_uppercase()),
            Reply::Simple(name) => Some(name.to_uppercase()),
            _ => None,
        };
        let mut names: Vec<String> = names.into_iter().filter_map(text).collect();
        names.sort_unstable();
        self.server_commands.insert(names).clone()
    }

    /// The end: keeps the log of a database short.
    pub(super) fn close(self) -> Result<Exit, Failure> {
        if let Place::Local(local) = &self.place {
            local.settle()?;
        }
        Ok(Exit::Done)
    }
}
