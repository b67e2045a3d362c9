//! The command `pugdb`: reads the command line, runs one subcommand, ends with its exit code.

mod acl;
mod allocator;
mod arguments;
mod audit;
mod bench;
mod compact;
mod doctor;
mod erase;
mod init;
mod input;
mod inspect;
mod interrupt;
mod keeper;
mod key;
mod keys;
mod keyspace;
mod made;
mod manual;
mod outcome;
mod output;
mod partitions;
mod password;
mod patient;
mod privacy;
mod remote;
mod report;
mod root_key;
mod scan;
mod serve;
mod settings;
mod shell;
mod sizing;
mod target;
mod text;
mod tls;
mod transfer;
mod url;

use std::process::ExitCode;

use crate::arguments::{Arguments, Command};
use crate::outcome::{Exit, Failure};
use crate::output::Format;
use crate::settings::Settings;

fn main() -> ExitCode {
    allocator::limit_arenas();
    let result = settings::read().and_then(|(arguments, settings)| run(&arguments, &settings));
    let exit = result.unwrap_or_else(|failure| {
        output::failure(&failure);
        failure.exit
    });
    exit.into()
}

fn run(arguments: &Arguments, settings: &Settings) -> Result<Exit, Failure> {
    let format = if arguments.json { Format::Json } else { Format::Text };
    if !matches!(&arguments.command, Command::Serve(serve) if serve.allow_core_dumps) {
        pugdb::env::os::leave_no_core_dumps();
    }
    match &arguments.command {
        Command::Init(arguments) => init::init(arguments, format),
        Command::Serve(arguments) => serve::serve(arguments, format),
        Command::Shell(arguments) => shell::shell(arguments, format),
        Command::Get(arguments) => keys::get(arguments, format),
        Command::Put(arguments) => keys::put(arguments),
        Command::Delete(arguments) => keys::delete(arguments, format),
        Command::Exists(arguments) => keys::exists(arguments, format),
        Command::Scan(arguments) => scan::scan(arguments, format),
        Command::Stats(arguments) => report::stats(arguments, format),
        Command::Keyspace(arguments) => keyspace::keyspace(arguments, format),
        Command::Checkpoint(arguments) => report::checkpoint(arguments, format),
        Command::Verify(arguments) => report::verify(arguments, format),
        Command::Key(arguments) => key::key(arguments, format),
        Command::Privacy(arguments) => privacy::privacy(arguments, format),
        Command::Tls(arguments) => tls::tls(arguments, format),
        Command::Erase(arguments) => erase::erase(arguments, format),
        Command::Acl(arguments) => acl::acl(arguments, format),
        Command::Audit(arguments) => audit::audit(arguments, format),
        Command::Compact(arguments) => compact::compact(arguments, format),
        Command::Import(arguments) => transfer::import(arguments, format),
        Command::Export(arguments) => transfer::export(arguments, format),
        Command::Bench(arguments) => bench::bench(arguments, format),
        Command::Inspect(arguments) => inspect::inspect(arguments, format),
        Command::Doctor(arguments) => doctor::doctor(arguments, format),
        Command::Config(arguments) => settings::config(arguments, settings, format),
        Command::Completions(arguments) => manual::completions(arguments),
        Command::Man(arguments) => manual::man(arguments),
    }
}
