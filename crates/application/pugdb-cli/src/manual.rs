//! `completions` and `man`: what a shell and `man` want to know of the command line.

use std::io;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::arguments::Arguments;
use crate::outcome::{Exit, Failure};
use crate::output::{Answer, note};

/// Print the completions for a shell
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  pugdb completions bash > ~/.local/share/bash-completion/completions/pugdb
  pugdb completions zsh > \"${fpath[1]}/_pugdb\"
  pugdb completions fish > ~/.config/fish/completions/pugdb.fish")]
pub(crate) struct CompletionsArguments {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Print the man page, or write one for each command into a directory
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  pugdb man | man -l -
  pugdb man ~/.local/share/man/man1            pugdb.1, pugdb-serve.1 and so on")]
pub(crate) struct ManArguments {
    /// The directory for all pages; it is made if there is none
    dir: Option<PathBuf>,
}

pub(crate) fn completions(arguments: &CompletionsArguments) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "pugdb", &mut script);
    let mut stdout = Answer::new();
    stdout.write(&script)?;
    stdout.finish()?;
    Ok(Exit::Done)
}

pub(crate) fn man(arguments: &ManArguments) -> Result<Exit, Failure> {
    let command = Arguments::command();
    let Some(dir) = &arguments.dir else {
        let mut stdout = Answer::new();
        clap_mangen::Man::new(command).render(&mut stdout).map_err(|error| Failure::stdout(&error))?;
        stdout.finish()?;
        return Ok(Exit::Done);
    };
    let failure = |error: io::Error| Failure::io(format!("write the pages to {}", dir.display()), &error);
    std::fs::create_dir_all(dir).map_err(failure)?;
    clap_mangen::generate_to(command, dir).map_err(failure)?;
    note(&format!("the pages are in {}", dir.display()));
    Ok(Exit::Done)
}
