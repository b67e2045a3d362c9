//! `config show`: each setting, its value, where it comes from.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::layers::usual_places;
use super::{Row, Scope, Settings};
use crate::outcome::{Exit, Failure};
use crate::output::{Answer, Format};
use crate::target::{DATA_DEFAULT, HTTP_DEFAULT, KEYSPACE_DEFAULT, MEMORY_DEFAULT};

/// Show what is set and where
#[derive(Args, Debug)]
pub(crate) struct ConfigArguments {
    #[command(subcommand)]
    pub(crate) action: ConfigAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigAction {
    /// Print each setting, its value and where it comes from
    #[command(after_help = "\
A flag counts before a variable of the environment, that before the file, that before what is built in. The file is the one
of --config or PUGDB_CONFIG, else the first that is there of ./pugdb.toml, pugdb/pugdb.toml in the user's configuration
directory ($XDG_CONFIG_HOME or ~/.config), and /etc/pugdb/pugdb.toml. Its names are those of the flags with _ for -:

  data = \"/var/lib/pugdb\"
  memory = \"4GiB\"
  durability = \"sync\"

A name that is no setting is refused, in the file and in variables that begin with PUGDB_.

Examples:
  pugdb config show
  PUGDB_MEMORY=2GiB pugdb config show --json
  pugdb config show --config /etc/pugdb/pugdb.toml")]
    Show,
}

/// A line of the answer.
#[derive(Serialize)]
struct Shown {
    name: String,
    value: Option<String>,
    source: String,
    /// Which commands see this value.
    commands: &'static str,
    variable: String,
}

pub(crate) fn config(
    arguments: &ConfigArguments,
    settings: &Settings,
    format: Format,
) -> Result<Exit, Failure> {
    let ConfigAction::Show = arguments.action;
    let shown: Vec<Shown> = settings.rows.iter().map(|row| show(row, settings)).collect();
    let mut stdout = Answer::new();
    if format == Format::Json {
        for line in &shown {
            stdout.json(line)?;
        }
    } else {
        print(&shown, settings, &mut stdout)?;
    }
    stdout.finish()?;
    Ok(Exit::Done)
}

fn print(shown: &[Shown], settings: &Settings, stdout: &mut Answer) -> Result<(), Failure> {
    if let Some(path) = &settings.layers.path {
        stdout.line(&format!("file: {}", path.display()))?;
    } else {
        let places: Vec<String> = usual_places().iter().map(|path| path.display().to_string()).collect();
        stdout.line(&format!("file: none of {}", places.join(", ")))?;
    }
    let mut rows = vec![["setting", "value", "from", "for"].map(str::to_owned)];
    rows.extend(shown.iter().map(|line| {
        let value = line.value.clone().unwrap_or_else(|| "(not set)".to_owned());
        [line.name.clone(), value, line.source.clone(), line.commands.to_owned()]
    }));
    stdout.table(&rows)
}

fn show(row: &Row, settings: &Settings) -> Shown {
    let commands = match row.scope {
        Scope::Serve => "serve",
        Scope::Target => "other commands",
        Scope::Shell => "shell",
    };
    let value = match row.scope {
        Scope::Serve => value(row, settings, "serve").or_else(|| built_in_of_serve(&row.name)),
        Scope::Target => value(row, settings, "stats").or_else(|| built_in(&row.name)),
        Scope::Shell => value(row, settings, "shell"),
    };
    Shown {
        name: row.name.clone(),
        value,
        source: settings.layers.source(&row.name),
        commands,
        variable: row.variable(),
    }
}

/// The value that the command would see, given nothing on its command line.
fn value(row: &Row, settings: &Settings, command: &str) -> Option<String> {
    let matches = settings.command.clone().try_get_matches_from(["pugdb", command]).ok()?;
    let (_, matches) = matches.subcommand()?;
    let values = matches.get_raw(row.arg.get_id().as_str())?;
    let shown = values.map(|value| value.to_string_lossy()).collect::<Vec<_>>().join(", ");
    // Who one is there, and the password, are not shown.
    Some(match shown.rsplit_once('@') {
        Some((_, host)) if row.name == "url" => format!("redis://...@{host}"),
        _ => shown,
    })
}

/// It gives way to whoever has the port, so it is no default of the flag.
fn built_in_of_serve(name: &str) -> Option<String> {
    (name == "http").then(|| HTTP_DEFAULT.to_owned())
}

fn built_in(name: &str) -> Option<String> {
    let text = match name {
        "data" => DATA_DEFAULT,
        "keyspace" => KEYSPACE_DEFAULT,
        "memory" => MEMORY_DEFAULT,
        _ => return None,
    };
    Some(text.to_owned())
}
