//! Settings: flags over environment over a file over what is built in.
//!
//! The flags of `serve`, of [`Target`] and of `shell` are the table of settings: a field there is a row here. Its long
//! name gives the name in the file (`allow_remote_without_encryption`) and the variable
//! (`PUGDB_ALLOW_REMOTE_WITHOUT_ENCRYPTION`); its parser checks all three. Environment and file are put beneath the
//! command line as default values, so nothing has to know where a value came from.
//!
//! | file | its part |
//! |---|---|
//! | `layers` | reads environment and file, refuses what is unknown |
//! | `mistake` | keeps keys, values and passwords out of what clap says |
//! | `show` | `config show` |

mod layers;
mod mistake;
mod show;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args as _, Command, CommandFactory as _, FromArgMatches as _};

use crate::arguments::{self, Arguments, ServeArguments, Target};
use crate::outcome::Failure;
use crate::shell::ShellArguments;
use layers::Layers;
pub(crate) use show::{ConfigArguments, config};

/// The variable that names the file, as `--config` does.
const CONFIG_VARIABLE: &str = "PUGDB_CONFIG";
/// The variable with a password for a server. It is no setting: no file has it, and nothing shows it.
pub(crate) const PASSWORD_VARIABLE: &str = "PUGDB_PASSWORD";
/// Before the name of every variable.
const PREFIX: &str = "PUGDB_";

/// Reads the command line, with environment and file beneath it. A wrong command line ends the process as clap does.
pub(crate) fn read() -> Result<(Arguments, Settings), Failure> {
    let rows = rows();
    let command = with_variables(Arguments::command(), &rows);
    // Help, version and mistakes of the command line come first, whatever the file says.
    let named = matches_of(&command).get_one::<PathBuf>("config").cloned();
    let layers = Layers::read(&rows, named)?;
    let command = layers.beneath(command, &rows);
    let matches = matches_of(&command);
    let mut arguments =
        Arguments::from_arg_matches(&matches).map_err(|error| Failure::usage(error.to_string()))?;
    choose_place(&mut arguments, &matches, &layers);
    choose_sealing(&mut arguments, &matches, &layers);
    Ok((arguments, Settings { rows, layers, command }))
}

/// The command line taken apart. Help, version and a mistake end the process here.
fn matches_of(command: &Command) -> ArgMatches {
    let matches = command.clone().try_get_matches();
    matches.unwrap_or_else(|error| mistake::without_content(error).exit())
}

/// What `config show` tells about.
pub(crate) struct Settings {
    rows: Vec<Row>,
    layers: Layers,
    /// The command line with environment and file beneath it.
    command: Command,
}

/// A setting, as the command line declares it.
struct Row {
    /// As in the file.
    name: String,
    arg: Arg,
    scope: Scope,
}

/// Which commands a setting is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Serve,
    /// Every command that works on a directory or through a server.
    Target,
    Shell,
}

/// The table.
fn rows() -> Vec<Row> {
    let shell = ShellArguments::augment_args(Command::new("shell"));
    let target = Target::augment_args(Command::new("target"));
    let serve = ServeArguments::augment_args(Command::new("serve"));
    let is_of_target = |arg: &Arg| target.get_arguments().any(|other| other.get_id() == arg.get_id());
    let of = |command: &Command, scope| -> Vec<Row> {
        let settings = command.get_arguments().filter(|arg| scope != Scope::Shell || !is_of_target(arg));
        settings.filter_map(|arg| Row::of(arg, scope)).collect()
    };
    [of(&serve, Scope::Serve), of(&target, Scope::Target), of(&shell, Scope::Shell)]
        .into_iter()
        .flatten()
        .collect()
}

impl Row {
    fn of(arg: &Arg, scope: Scope) -> Option<Self> {
        let name = arg.get_long()?.replace('-', "_");
        Some(Self { name, arg: arg.clone(), scope })
    }

    fn variable(&self) -> String {
        variable(&self.name)
    }

    fn takes_many(&self) -> bool {
        matches!(self.arg.get_action(), ArgAction::Append)
    }

    /// True for a subcommand that has this setting.
    fn belongs_to(&self, command: &Command) -> bool {
        let is_own = match self.scope {
            Scope::Serve => command.get_name() == "serve",
            Scope::Target => command.get_name() != "serve",
            Scope::Shell => command.get_name() == "shell",
        };
        is_own && command.get_arguments().any(|arg| arg.get_long() == self.arg.get_long())
    }
}

fn variable(name: &str) -> String {
    format!("{PREFIX}{}", name.to_uppercase())
}

/// Changes the arguments that are settings, in every subcommand.
fn map_settings(command: Command, rows: &[Row], change: &dyn Fn(Arg, &Row) -> Arg) -> Command {
    let mut command = command;
    for row in rows.iter().filter(|row| row.belongs_to(&command)).collect::<Vec<_>>() {
        command = command.mut_arg(row.arg.get_id(), |arg| change(arg, row));
    }
    let names: Vec<String> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    names.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, |inner| map_settings(inner, rows, change))
    })
}

/// The help says how each variable is called.
fn with_variables(command: Command, rows: &[Row]) -> Command {
    map_settings(command, rows, &|arg, row| {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        arg.help(format!("{help} [env: {}]", row.variable()))
    })
}

/// How strongly a value is meant.
fn rank(id: &str, matches: &ArgMatches, layers: &Layers) -> u8 {
    match matches.value_source(id) {
        None => 0,
        Some(ValueSource::DefaultValue) => layers.rank(id),
        Some(_) => u8::MAX,
    }
}

/// As [`rank`], of the subcommand that runs. It may lack the argument.
fn rank_below(id: &str, matches: &ArgMatches, layers: &Layers) -> u8 {
    let mut leaf = matches;
    while let Some((_, inner)) = leaf.subcommand() {
        leaf = inner;
    }
    if leaf.try_contains_id(id).is_ok() { rank(id, leaf, layers) } else { 0 }
}

/// A root key that is meant as strongly as `no_encryption` counts more: what was to be encrypted never is not.
fn choose_sealing(arguments: &mut Arguments, matches: &ArgMatches, layers: &Layers) {
    let root_key = rank_below("root_key", matches, layers);
    if root_key == 0 || root_key < rank_below("no_encryption", matches, layers) {
        return;
    }
    let no_encryption = match &mut arguments.command {
        arguments::Command::Init(init) => &mut init.no_encryption,
        arguments::Command::Serve(serve) => &mut serve.no_encryption,
        command => match command.target_mut() {
            Some(target) => &mut target.no_encryption,
            None => return,
        },
    };
    *no_encryption = false;
}

/// Directory and server exclude each other: the one that is meant more strongly counts, and of equals the server,
/// since it holds the directory.
fn choose_place(arguments: &mut Arguments, matches: &ArgMatches, layers: &Layers) {
    let is_local = arguments.command.is_local();
    let Some(target) = arguments.command.target_mut() else { return };
    let (data, url) = (rank_below("data", matches, layers), rank_below("url", matches, layers));
    if url < data || (is_local && url < u8::MAX) {
        target.url = None;
    }
    if target.url.is_some() {
        target.data = None;
        target.memory = None;
    }
}

/// As they were given, or as the file holds them: one or several.
type Values = Vec<OsString>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_of_serve_and_target_is_a_setting() {
        let names: Vec<String> = rows().iter().map(|row| row.name.clone()).collect();
        for name in
            ["data", "resp", "memory", "durability", "allow_remote_without_encryption", "url", "keyspace"]
        {
            assert!(names.iter().any(|other| other == name), "{name} in {names:?}");
        }
        assert_eq!(names.iter().filter(|name| *name == "data").count(), 2, "{names:?}");
    }

    #[test]
    fn the_help_names_the_variables() {
        let mut command = with_variables(Arguments::command(), &rows());
        let help = |name: &str, command: &mut Command| {
            command.find_subcommand_mut(name).unwrap().render_long_help().to_string()
        };
        assert!(help("serve", &mut command).contains("[env: PUGDB_DURABILITY]"));
        assert!(help("get", &mut command).contains("[env: PUGDB_URL]"));
        command.debug_assert();
    }
}
