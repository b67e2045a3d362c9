//! The command `pugdb`: reads the command line, runs one subcommand, ends with its exit code.

mod arguments;
mod bench;
mod input;
mod inspect;
mod keys;
mod outcome;
mod output;
mod remote;
mod scan;
mod serve;
mod target;
mod text;
mod transfer;
mod url;

use std::process::ExitCode;

use clap::Parser as _;

use crate::arguments::{Arguments, Command};

fn main() -> ExitCode {
    let result = match &Arguments::parse().command {
        Command::Serve(arguments) => serve::serve(arguments),
        Command::Get(arguments) => keys::get(arguments),
        Command::Put(arguments) => keys::put(arguments),
        Command::Delete(arguments) => keys::delete(arguments),
        Command::Exists(arguments) => keys::exists(arguments),
        Command::Scan(arguments) => scan::scan(arguments),
        Command::Stats(arguments) => inspect::stats(arguments),
        Command::Verify(arguments) => inspect::verify(arguments),
        Command::Import(arguments) => transfer::import(arguments),
        Command::Export(arguments) => transfer::export(arguments),
        Command::Bench(arguments) => bench::bench(arguments),
    };
    let exit = result.unwrap_or_else(|failure| {
        output::failure(&failure);
        failure.exit
    });
    exit.into()
}
