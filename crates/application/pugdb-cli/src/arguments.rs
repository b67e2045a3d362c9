//! The command line: every subcommand, argument and help text.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::text::parse_size;
use crate::url::ServerUrl;

const EXAMPLES: &str = "\
Examples:
  pugdb serve                                  keep ./pugdb-data, answer Redis clients on 127.0.0.1:7379
  pugdb put ada 1815                           write without a server
  pugdb get ada --url redis://127.0.0.1:7379   read through a server
  pugdb put portrait @ada.png                  the value is a file's content
  pugdb scan --prefix user: --limit 10
  pugdb import dir /usr/share/doc --keyspace docs
  pugdb export jsonl - --keyspace docs | gzip > docs.jsonl.gz

Exit codes:
  0  done
  1  the key, keyspace or database does not exist
  2  the command line or the request breaks a rule
  3  damaged data was found, or a part was left out
  4  cannot be done now: in use, no rights, no server, no space
  5  a bug in PugDB";

/// PugDB: a privacy-first key-value database.
#[derive(Debug, Parser)]
#[command(name = "pugdb", version, about, after_help = EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Serve(ServeArguments),
    Get(GetArguments),
    Put(PutArguments),
    Delete(DeleteArguments),
    Exists(ExistsArguments),
    Scan(ScanArguments),
    Stats(StatsArguments),
    Verify(VerifyArguments),
    Import(ImportArguments),
    Export(ExportArguments),
    Bench(crate::bench::BenchArguments),
}

/// Where a command works: a directory on this machine, or a server.
#[derive(Args, Debug)]
pub(crate) struct Target {
    /// The directory of the database [default: ./pugdb-data]
    #[arg(long, value_name = "DIR", conflicts_with = "url")]
    pub(crate) data: Option<PathBuf>,
    /// A server instead of a directory
    #[arg(long, value_name = "URL", help = "A server instead: redis://HOST[:PORT][/DATABASE]")]
    pub(crate) url: Option<ServerUrl>,
    /// The keyspace [default: db0]; a server has db0 to db15
    #[arg(long, value_name = "NAME")]
    pub(crate) keyspace: Option<String>,
    /// Memory for the database, such as 2GiB; a value has at most a quarter of it [default: 512MiB]
    #[arg(long, value_name = "BYTES", value_parser = parse_size, conflicts_with = "url")]
    pub(crate) memory: Option<usize>,
}

/// How keys and values on the command line become bytes.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Spelling {
    /// Take keys and values as they stand: @ and - mean nothing
    #[arg(long, short, conflicts_with = "escaped")]
    pub(crate) literal: bool,
    /// Read \t \n \r \\ and \xNN in keys and values, as `scan` prints them
    #[arg(long, short)]
    pub(crate) escaped: bool,
}

/// Serve the database to Redis clients until Ctrl-C or SIGTERM
#[derive(Args, Debug)]
#[command(after_help = "\
There are no users and no TLS yet: whoever reaches the port reads and changes everything. So only addresses of this
machine are accepted, unless --allow-remote-without-encryption says otherwise.

Examples:
  pugdb serve
  pugdb serve --data /var/lib/pugdb --memory 4GiB
  pugdb serve --resp 127.0.0.1:0               a free port; the line \"ready on\" names it
  pugdb serve --unix-socket /run/pugdb/redis --no-http")]
pub(crate) struct ServeArguments {
    /// The directory of the database; it is made if there is none
    #[arg(long, value_name = "DIR", default_value = crate::target::DATA_DEFAULT)]
    pub(crate) data: PathBuf,
    /// Where Redis clients are answered
    #[arg(long, value_name = "ADDRESS", default_value = crate::target::RESP_DEFAULT)]
    pub(crate) resp: String,
    /// What the database may hold in memory, such as 4GiB
    #[arg(long, value_name = "BYTES", value_parser = parse_size, default_value = "1GiB")]
    pub(crate) memory: usize,
    /// What an acknowledged write survives
    #[arg(long, value_enum, default_value_t = Level::Sync)]
    pub(crate) durability: Level,
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
    /// Accept an address that other machines reach: everybody who does reads and changes everything, and so does
    /// everybody on the way
    #[arg(long)]
    pub(crate) allow_remote_without_encryption: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// A killed process and a power cut
    Sync,
    /// A killed process; after a power cut the last writes can be gone
    Os,
}

/// Print the value of a key
#[derive(Args, Debug)]
#[command(after_help = "\
The value is printed as it is; only on a terminal a line end follows. A key that does not exist prints nothing and ends
with code 1.

Examples:
  pugdb get ada
  pugdb get portrait > ada.png
  pugdb get --escaped 'a\\x00b'")]
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
    #[command(flatten)]
    pub(crate) spelling: Spelling,
    #[command(flatten)]
    pub(crate) target: Target,
}

/// Three thousand years; in milliseconds it fits what every Redis accepts.
const EXPIRE_SECONDS_MAX: u64 = 100_000_000_000;

/// Remove a key; code 1 if it did not exist
#[derive(Args, Debug)]
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
pub(crate) struct StatsArguments {
    /// Count the entries of the keyspace, too; reads all of it
    #[arg(long)]
    pub(crate) count: bool,
    #[command(flatten)]
    pub(crate) target: Target,
}

/// Read every byte on disk and check it; code 3 if something is damaged
#[derive(Args, Debug)]
#[command(after_help = "\
It reads the files themselves, so it needs --data, and no server may run on them.")]
pub(crate) struct VerifyArguments {
    #[command(flatten)]
    pub(crate) target: Target,
}

/// Bring in a directory tree or JSONL
#[derive(Args, Debug)]
pub(crate) struct ImportArguments {
    #[command(subcommand)]
    pub(crate) source: ImportSource,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImportSource {
    /// A directory tree: the path is the key, the content the value
    #[command(after_help = "\
A key is the path below PATH with / between its parts, byte for byte. Only regular files are kept: links and special files
are listed and skipped, empty directories, owners, modes and times are not kept. A file that cannot be read or is too large
is listed and skipped, and the code is 3. Everything is on disk when the command ends; when it is stopped, what it wrote so
far stays.")]
    Dir {
        /// The directory
        path: PathBuf,
        #[command(flatten)]
        target: Target,
    },
    /// A file of JSON objects, one a line
    #[command(after_help = "\
A line: {\"key\":\"ada\",\"value\":\"1815\"}. Bytes that are not UTF-8 come as \"key_base64\" or \"value_base64\" instead.
Optional: \"expires_at_ms\" (milliseconds since 1970) and \"meta\" (the entry's own byte, 0 to 255). Nothing else is allowed.
The first line that is wrong ends the import with its number and code 3; the lines before it stay imported.")]
    Jsonl {
        /// The file, or - for stdin
        file: PathBuf,
        #[command(flatten)]
        target: Target,
    },
}

/// Write out a directory tree or JSONL
#[derive(Args, Debug)]
pub(crate) struct ExportArguments {
    #[command(subcommand)]
    pub(crate) destination: ExportDestination,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ExportDestination {
    /// A directory tree: the key is the path, the value the content
    #[command(after_help = "\
A key that is no safe path (absolute, with empty parts, `.`, `..` or NUL, a part too long for the file system, or a file where
another key needs a folder) is listed and left out, and the code is 3. Links in the target are never followed. Expiry is
not kept; use jsonl for that.")]
    Dir {
        /// The directory; it is made if there is none
        path: PathBuf,
        /// Replace files that are there already
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        target: Target,
    },
    /// A file of JSON objects, one a line, as `import jsonl` reads it
    Jsonl {
        /// The file, or - for stdout
        file: PathBuf,
        /// Replace the file if it is there already
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        target: Target,
    },
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
        for code in 0..=5 {
            assert!(help.contains(&format!("\n  {code}  ")), "{code} in {help}");
        }
    }
}
