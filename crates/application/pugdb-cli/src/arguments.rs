//! The command line: every subcommand, argument and help text.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use pugdb::Durability;

use crate::acl::AclArguments;
use crate::audit::AuditArguments;
use crate::doctor::DoctorArguments;
use crate::erase::EraseArguments;
use crate::init::InitArguments;
use crate::inspect::InspectArguments;
use crate::key::KeyCommandArguments;
use crate::keyspace::KeyspaceArguments;
use crate::manual::{CompletionsArguments, ManArguments};
use crate::privacy::PrivacyArguments;
use crate::root_key::KeyArguments;
use crate::settings::ConfigArguments;
use crate::shell::ShellArguments;
use crate::sizing::Memory;
use crate::text::parse_size;
use crate::tls::{ClientTls, ServeTls, TlsCommandArguments};
use crate::transfer::{ExportArguments, ImportArguments};
use crate::url::ServerUrl;

const EXAMPLES: &str = "\
Examples:
  pugdb init                                   make an encrypted database in ./pugdb-data, and its key
  pugdb serve                                  keep ./pugdb-data, answer Redis clients on 127.0.0.1:7379
  pugdb put ada 1815                           write without a server
  pugdb get ada --url redis://127.0.0.1:7379   read through a server
  pugdb put portrait @ada.png                  the value is a file's content
  pugdb scan --prefix user: --limit 10
  pugdb shell                                  type commands; `help` lists them
  pugdb import csv people.csv --key id
  pugdb import rdb dump.rdb                    what redis-server saved
  pugdb export jsonl - --keyspace docs | gzip > docs.jsonl.gz

Every flag of `serve`, and --data, --url, --keyspace and --memory, can also be set by an environment variable (PUGDB_DATA
for --data) or in a file pugdb.toml; `pugdb config show` prints what counts and where it comes from.

Exit codes:
  0  done
  1  the key, keyspace or database does not exist
  2  the command line, a setting or the request breaks a rule
  3  damaged data was found, a part was left out, or `doctor` warns
  4  cannot be done now: in use, no rights, no server, no space
  5  a bug in PugDB
  130  stopped on request, by Ctrl-C or SIGTERM: what was done so far is kept (143: by a second SIGTERM)";

/// PugDB: a privacy-first key-value database.
#[derive(Debug, Parser)]
#[command(name = "pugdb", version, about, after_help = EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Arguments {
    /// Settings from this file, and from no other
    #[arg(long, global = true, value_name = "FILE", display_order = 900)]
    pub(crate) config: Option<PathBuf>,
    /// Print JSON: one object, or one a line
    #[arg(long, global = true, display_order = 900)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(InitArguments),
    Serve(ServeArguments),
    Shell(ShellArguments),
    Get(GetArguments),
    Put(PutArguments),
    Delete(DeleteArguments),
    Exists(ExistsArguments),
    Scan(ScanArguments),
    Stats(StatsArguments),
    Keyspace(KeyspaceArguments),
    Checkpoint(CheckpointArguments),
    Verify(VerifyArguments),
    Compact(CompactArguments),
    Key(KeyCommandArguments),
    Privacy(PrivacyArguments),
    Tls(TlsCommandArguments),
    Erase(EraseArguments),
    Audit(AuditArguments),
    Acl(AclArguments),
    Import(ImportArguments),
    Export(ExportArguments),
    Bench(crate::bench::BenchArguments),
    Inspect(InspectArguments),
    Doctor(DoctorArguments),
    Config(ConfigArguments),
    Completions(CompletionsArguments),
    Man(ManArguments),
}

impl Command {
    /// Where the command works, if it works on a database's entries.
    pub(crate) fn target_mut(&mut self) -> Option<&mut Target> {
        match self {
            Self::Shell(arguments) => Some(&mut arguments.target),
            Self::Get(arguments) => Some(&mut arguments.target),
            Self::Put(arguments) => Some(&mut arguments.target),
            Self::Delete(arguments) => Some(&mut arguments.target),
            Self::Exists(arguments) => Some(&mut arguments.target),
            Self::Scan(arguments) => Some(&mut arguments.target),
            Self::Stats(arguments) => Some(&mut arguments.target),
            Self::Keyspace(arguments) => Some(arguments.target_mut()),
            Self::Checkpoint(arguments) => Some(&mut arguments.target),
            Self::Verify(arguments) => Some(&mut arguments.target),
            Self::Compact(arguments) => Some(&mut arguments.target),
            Self::Key(arguments) => Some(arguments.target_mut()),
            Self::Privacy(arguments) => Some(arguments.target_mut()),
            Self::Erase(arguments) => Some(arguments.target_mut()),
            Self::Acl(arguments) => Some(arguments.target_mut()),
            Self::Import(arguments) => Some(arguments.target_mut()),
            Self::Export(arguments) => Some(arguments.target_mut()),
            Self::Init(_)
            | Self::Serve(_)
            | Self::Audit(_)
            | Self::Bench(_)
            | Self::Tls(_)
            | Self::Inspect(_)
            | Self::Doctor(_)
            | Self::Config(_)
            | Self::Completions(_)
            | Self::Man(_) => None,
        }
    }

    /// True when it works on files only and never through a server.
    pub(crate) fn is_local(&self) -> bool {
        matches!(
            self,
            Self::Checkpoint(_)
                | Self::Keyspace(_)
                | Self::Verify(_)
                | Self::Compact(_)
                | Self::Key(_)
                | Self::Privacy(_)
                | Self::Erase(_)
                | Self::Import(_)
                | Self::Export(_)
        )
    }
}

/// Where a command works: a directory on this machine, or a server.
#[derive(Args, Clone, Debug)]
pub(crate) struct Target {
    /// The directory of the database [default: ./pugdb-data]
    #[arg(long, value_name = "DIR", conflicts_with = "url")]
    pub(crate) data: Option<PathBuf>,
    /// A server instead of a directory
    #[arg(
        long,
        value_name = "URL",
        help = "A server instead: redis://[USER[:PASSWORD]@]HOST[:PORT][/DATABASE], or rediss:// with TLS"
    )]
    pub(crate) url: Option<ServerUrl>,
    /// Who to be on the server [default: the one in the URL, or default]
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// The user's password is the first line of this file. Else it is in `PUGDB_PASSWORD` or in the URL, or is asked for
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// The keyspace [default: db0]; a server has db0 to db15
    #[arg(long, value_name = "NAME")]
    pub(crate) keyspace: Option<String>,
    /// Memory for the database, such as 2GiB, or auto; a value has at most a quarter of it [default: 512MiB]
    #[arg(long, value_name = "BYTES", value_parser = Memory::parse, conflicts_with = "url")]
    pub(crate) memory: Option<Memory>,
    /// Read beside the process that has the database open: what is committed now, and every change is refused
    #[arg(long, conflicts_with = "url")]
    pub(crate) read_only: bool,
    #[command(flatten)]
    pub(crate) keys: KeyArguments,
    /// If a database is made: seal nothing; whoever reads the disk, or a copy of it, reads the data
    #[arg(long, conflicts_with_all = ["root_key", "url"])]
    pub(crate) no_encryption: bool,
    #[command(flatten)]
    pub(crate) tls: ClientTls,
}

/// How keys and values on the command line become bytes, and how bytes are printed.
#[derive(Args, Clone, Copy, Debug, Default)]
#[group(multiple = false)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of its own on the command line; `form` reads them"
)]
pub(crate) struct Spelling {
    /// Take keys and values as they stand: @ and - mean nothing
    #[arg(long, short)]
    literal: bool,
    /// Read \t \n \r \\ and \xNN in keys and values, as `scan` prints them
    #[arg(long, short)]
    escaped: bool,
    /// Keys and values are hexadecimal digits, here and in what is printed
    #[arg(long)]
    hex: bool,
    /// Keys and values are base64 (standard alphabet, padded), here and in what is printed
    #[arg(long)]
    base64: bool,
    /// As --literal, and print bytes as they are: nothing is escaped, no line end is added to a value
    #[arg(long)]
    raw: bool,
}

/// What a [`Spelling`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// In: text, `@FILE`, `-`. Out: what suits the place.
    Plain,
    Literal,
    Escaped,
    Hex,
    Base64,
    Raw,
}

impl Spelling {
    pub(crate) fn form(self) -> Form {
        let flags = [
            (self.literal, Form::Literal),
            (self.escaped, Form::Escaped),
            (self.hex, Form::Hex),
            (self.base64, Form::Base64),
            (self.raw, Form::Raw),
        ];
        flags.into_iter().find_map(|(is_set, form)| is_set.then_some(form)).unwrap_or(Form::Plain)
    }
}

/// Something that is or is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

/// What becomes of what cannot be written into the audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AuditFailure {
    /// It is refused
    Block,
    /// It is done, and counted
    Continue,
}

/// Serve the database to Redis clients until Ctrl-C or SIGTERM
#[derive(Args, Debug)]
#[command(after_help = "\
Whoever reaches the port may do everything until `pugdb acl` or ACL SETUSER gives the user default a password. So only addresses
of this machine are accepted without more words. Others can be listened on with --tls-address, where nobody on the way reads along,
once there are users, or with --tls-clients required: whoever comes has to show a certificate.

The first Ctrl-C or SIGTERM ends in good order. A second one ends at once: nothing acknowledged is lost, and the next start
takes longer.

Examples:
  pugdb serve
  pugdb serve --data /var/lib/pugdb --memory 4GiB
  pugdb serve --resp 127.0.0.1:0               a free port; the line \"ready on\" names it
  pugdb serve --unix-socket /run/pugdb/redis --no-http
  pugdb serve --tls-address 0.0.0.0:7380 --tls-clients required
  pugdb serve --tls-address 0.0.0.0:7380 --tls-cert fullchain.pem --tls-key privkey.pem --tls-client-ca clients.pem")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
pub(crate) struct ServeArguments {
    /// The directory of the database. One is made if there is none, as `init` does: encrypted, with a key file of its own
    #[arg(long, value_name = "DIR", default_value = crate::target::DATA_DEFAULT)]
    pub(crate) data: PathBuf,
    #[command(flatten)]
    pub(crate) keys: KeyArguments,
    /// If a database is made: seal nothing; whoever reads the disk, or a copy of it, reads the data
    #[arg(long, conflicts_with = "root_key")]
    pub(crate) no_encryption: bool,
    /// Where Redis clients are answered
    #[arg(long, value_name = "ADDRESS", default_value = crate::target::RESP_DEFAULT)]
    pub(crate) resp: String,
    /// What the database may hold in memory, such as 4GiB; auto is 1GiB, or a quarter of what machine and control group
    /// give if that is less
    #[arg(long, value_name = "BYTES", value_parser = Memory::parse, default_value = "auto")]
    pub(crate) memory: Memory,
    /// What merges in the background may read and write in a second, such as 32MiB [default: no limit]
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    pub(crate) background_rate: Option<usize>,
    /// Read every table again after so many days, so that damage is found before it is needed; 0 for never
    #[arg(long, value_name = "DAYS", default_value_t = 7)]
    pub(crate) scrub_days: u16,
    /// Room that is kept for a full disk, so that deletes go on there and make some; 0 for none
    #[arg(long, value_name = "BYTES", default_value = "192MiB", value_parser = parse_size)]
    pub(crate) reserve: usize,
    /// Refuse a database that has not come so far: it was put back from an older copy. `stats`, the last line of `serve` and the metric
    /// `pugdb_generation` say how far it is; note it where no copy of the data is
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(crate) expect_generation: u64,
    /// What an acknowledged write survives: sync (a power cut), group:5ms (a power cut, with up to so much delay to share
    /// a sync), periodic:1s (a kill; a power cut takes so much at most), os (a kill)
    #[arg(long, value_name = "LEVEL", default_value_t = Durability::Sync)]
    pub(crate) durability: Durability,
    /// Keep an audit log [default: on for a database that is encrypted or has one]
    #[arg(long, value_name = "SWITCH")]
    pub(crate) audit: Option<Switch>,
    /// A second place for the audit log's checkpoints: a file, best on another machine's disk
    #[arg(long, value_name = "FILE")]
    pub(crate) audit_copy: Option<PathBuf>,
    /// What becomes of what cannot be written into the audit log: block refuses it, continue does it and counts
    #[arg(long, value_name = "POLICY", default_value = "block")]
    pub(crate) audit_on_failure: AuditFailure,
    /// A socket in the file system for Redis clients, too; only its owner may connect
    #[arg(long, value_name = "PATH")]
    pub(crate) unix_socket: Option<PathBuf>,
    /// Where /livez, /readyz and /metrics are answered [default: 127.0.0.1:7080, if it is free]
    #[arg(long, value_name = "ADDRESS", conflicts_with = "no_http")]
    pub(crate) http: Option<String>,
    /// Answer no HTTP
    #[arg(long)]
    pub(crate) no_http: bool,
    /// Clients at a time; one more is refused. Fewer, if the process may not open so many files
    #[arg(long, value_name = "COUNT", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_clients: u32,
    /// Close clients that are silent for so long; 0 for never
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub(crate) idle_timeout: u32,
    /// Let a crash leave a core dump and debuggers attach: for who looks for a bug, as keys and values are in memory
    #[arg(long)]
    pub(crate) allow_core_dumps: bool,
    /// Accept an address that other machines reach without TLS: whoever is on the way reads and changes everything, passwords too
    #[arg(long)]
    pub(crate) allow_remote_without_encryption: bool,
    #[command(flatten)]
    pub(crate) tls: ServeTls,
}

/// Print the value of a key
#[derive(Args, Debug)]
#[command(after_help = "\
The value is printed as it is; only on a terminal a line end follows. A key that does not exist prints nothing and ends
with code 1. --hex and --base64 read the key and print the value so, on a line; --raw prints no line end even on a
terminal; --json prints an object as `export jsonl` does.

Examples:
  pugdb get ada
  pugdb get portrait > ada.png
  pugdb get --escaped 'a\\x00b'
  pugdb get --hex 610062")]
pub(crate) struct GetArguments {
    /// The key: text, @FILE for a file's content, - for stdin
    pub(crate) key: OsString,
    #[command(flatten)]
    pub(crate) spelling: Spelling,
    #[command(flatten)]
    pub(crate) target: Target,
}

/// Set a key
#[derive(Args, Debug)]
#[command(after_help = "\
It returns when the value is on disk. Database and keyspace are made if there are none. Secrets belong into a file or
stdin: other users of the machine can see arguments.

Examples:
  pugdb put ada 1815
  pugdb put portrait @ada.png
  printf %s \"$TOKEN\" | pugdb put token - --expire-in 3600
  pugdb put --literal handle @ada
  pugdb put --hex 610062 ff00
  pugdb put -- balance -5")]
pub(crate) struct PutArguments {
    /// The key: text, @FILE for a file's content, - for stdin
    pub(crate) key: OsString,
    /// The value: text, @FILE for a file's content, - for stdin
    pub(crate) value: OsString,
    /// The key is gone after this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=EXPIRE_SECONDS_MAX))]
    pub(crate) expire_in: Option<u64>,
    /// The key is gone after this many milliseconds
    #[arg(long, value_name = "MILLISECONDS", conflicts_with = "expire_in",
          value_parser = clap::value_parser!(u64).range(1..=EXPIRE_SECONDS_MAX * 1000))]
    pub(crate) expire_ms: Option<u64>,
    /// Whom the value is about: it is sealed with a key of theirs, and gone when they are erased (an encrypted database)
    #[arg(long, value_name = "NAME")]
    pub(crate) subject: Option<String>,
    #[command(flatten)]
    pub(crate) spelling: Spelling,
    #[command(flatten)]
    pub(crate) target: Target,
}

/// Three thousand years; in milliseconds it fits what every Redis accepts.
const EXPIRE_SECONDS_MAX: u64 = 100_000_000_000;

/// Remove a key; code 1 if it did not exist
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  pugdb delete ada
  pugdb delete --hex 610062")]
pub(crate) struct DeleteArguments {
    /// The key: text, @FILE for a file's content, - for stdin
    pub(crate) key: OsString,
    #[command(flatten)]
    pub(crate) spelling: Spelling,
    #[command(flatten)]
    pub(crate) target: Target,
}

/// Print 1 if a key exists, else 0 and end with code 1
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  pugdb exists ada && echo there
  pugdb exists ada --url redis://127.0.0.1:7379")]
pub(crate) struct ExistsArguments {
    /// The key: text, @FILE for a file's content, - for stdin
    pub(crate) key: OsString,
    #[command(flatten)]
    pub(crate) spelling: Spelling,
    #[command(flatten)]
    pub(crate) target: Target,
}

/// Print keys and values in the order of the keys
#[derive(Args, Debug)]
#[command(after_help = "\
A line is the key, a tab, the value. Tab, line end, backslash and every byte that is not printable UTF-8 appear as \\t \\n
\\r \\\\ \\xNN, so nothing is lost; --escaped reads that form back.

--hex and --base64 print keys and values so. --raw escapes nothing: then a tab or line end in a key or value looks like one
between them. --json prints an object a line, as `export jsonl` does.

Through --url the keys that match are gathered first, because a server gives them in no promised order.

Examples:
  pugdb scan --prefix user: --limit 10
  pugdb scan --start b --end d                 b is included, d is not
  pugdb scan --reverse --limit 1               the last key
  pugdb scan --keys-only | wc -l")]
pub(crate) struct ScanArguments {
    /// Only keys that begin so
    #[arg(long, value_name = "TEXT")]
    pub(crate) prefix: Option<OsString>,
    /// Only this key and those after it
    #[arg(long, value_name = "KEY")]
    pub(crate) start: Option<OsString>,
    /// Only keys before this one
    #[arg(long, value_name = "KEY")]
    pub(crate) end: Option<OsString>,
    /// From the last key to the first
    #[arg(long)]
    pub(crate) reverse: bool,
    /// At most this many
    #[arg(long, value_name = "COUNT")]
    pub(crate) limit: Option<usize>,
    /// Print no values
    #[arg(long)]
    pub(crate) keys_only: bool,
    #[command(flatten)]
    pub(crate) spelling: Spelling,
    #[command(flatten)]
    pub(crate) target: Target,
}

/// Print sizes and counts
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  pugdb stats
  pugdb stats --count --keyspace users
  pugdb stats --json --url redis://127.0.0.1:7379")]
pub(crate) struct StatsArguments {
    /// Count the entries of the keyspace, too; reads all of it
    #[arg(long)]
    pub(crate) count: bool,
    #[command(flatten)]
    pub(crate) target: Target,
}

/// Make a copy of the database in a new directory, tables by hard link where that can be
#[derive(Args, Debug)]
#[command(after_help = "\
The copy is whole or not there: it is made under the name with .unfinished behind it. A table takes no space of its own until
one of the two databases has merged it away. The two can be opened, changed and removed without regard to each other.

It works on the directory, so it needs --data, and no server may run on it. A program with the database open can make one at
any time: Database::checkpoint.

Examples:
  pugdb checkpoint before-the-upgrade
  pugdb checkpoint /backup/monday --data /var/lib/pugdb
  pugdb verify --data before-the-upgrade")]
pub(crate) struct CheckpointArguments {
    /// The directory to be made
    pub(crate) directory: PathBuf,
    #[command(flatten)]
    pub(crate) target: Target,
}

/// Read every byte on disk and check it; code 3 if something is damaged
#[derive(Args, Debug)]
#[command(after_help = "\
It reads the files themselves, so it needs --data, and no server may run on them.

Examples:
  pugdb verify
  pugdb verify --data /var/lib/pugdb --json")]
pub(crate) struct VerifyArguments {
    #[command(flatten)]
    pub(crate) target: Target,
}

/// Merge what a keyspace has on disk: nothing that is old or deleted takes room after it
#[derive(Args, Debug)]
#[command(after_help = "\
It happens by itself, sooner or later; this does it now, and waits. It needs --data, and no server may run on it.

Examples:
  pugdb compact
  pugdb compact --data /var/lib/pugdb --keyspace users --json")]
pub(crate) struct CompactArguments {
    #[command(flatten)]
    pub(crate) target: Target,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn directory_and_server_exclude_each_other() {
        let both = ["pugdb", "get", "k", "--data", "d", "--url", "redis://localhost"];
        let error = Arguments::try_parse_from(both).unwrap_err();
        assert_eq!(error.kind(), clap::error::ErrorKind::ArgumentConflict);
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn help_names_every_exit_code() {
        let help = Arguments::command().render_help().to_string();
        for code in [0, 1, 2, 3, 4, 5, 130] {
            assert!(help.contains(&format!("\n  {code}  ")), "{code} in {help}");
        }
    }
}
