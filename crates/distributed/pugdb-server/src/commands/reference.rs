//! The reference of all commands and settings as a page of Markdown: `docs/reference/commands.md` is made of it.

use std::fmt::Write as _;

use super::client;
use super::config::{SETTINGS, Set};
use super::connection::REDIS_VERSION;
use super::table::{Command, Group, LATER, TABLE};
use crate::failure::Failure;

const GROUPS: &[(Group, &str)] = &[
    (Group::String, "Strings"),
    (Group::Bitmap, "Bits"),
    (Group::Generic, "Keys"),
    (Group::Transactions, "Transactions"),
    (Group::Connection, "Connections"),
    (Group::Server, "The server"),
];

/// All commands, how they differ from those of Redis, which ones come later, and all settings, as Markdown.
///
/// ```
/// let page = pugdb_server::command_reference();
/// assert!(page.contains("| `SET` | `key value [NX"));
/// ```
pub fn command_reference() -> String {
    let mut page = format!(
        "# Commands\n\n\
         Made from the server's own table of commands, which `COMMAND` shows to clients too: do not edit it; run\n\
         `UPDATE_EXPECT=1 cargo test -p pugdb-server reference`. They are those of Redis {REDIS_VERSION}. Where the last column is\n\
         empty, no difference is known. An error never repeats what an argument holds, but for the\n\
         name of a command.\n"
    );
    for (group, title) in GROUPS {
        // Writing to a string does not fail.
        let _ = writeln!(
            page,
            "\n## {title}\n\n| command | arguments | since Redis | what it does | what differs |\n|---|---|---|---|---|"
        );
        for command in TABLE {
            rows(command, *group, &mut page);
        }
    }
    let _ = writeln!(
        page,
        "\n## Later\n\nThese commands of Redis are not in this version. They answer `{}`.\n\n{}\n\nBehind `CLIENT`: {}. \
         A subcommand that is in no list is unknown here.",
        Failure::LATER.text(),
        code_list(LATER),
        code_list(client::LATER),
    );
    page += "\n## Settings\n\n\
             What `CONFIG GET` shows. `CONFIG SET` takes several at once, all or none; a change lasts until the server ends.\n\n\
             | setting | what it is | `CONFIG SET` |\n|---|---|---|\n";
    for setting in SETTINGS {
        let set = match &setting.set {
            Set::Number(least, i64::MAX, _) => format!("a number from {least}"),
            Set::Number(least, most, _) => format!("a number from {least} to {most}"),
            Set::Password => "a password, or nothing for none; kept in the database".into(),
            Set::NoEffect([]) => "accepted, without effect".into(),
            Set::NoEffect(words) => format!("accepted, without effect: {}", code_list(words)),
            Set::Fixed(reason) | Set::Reload(reason) => format!("refused: {reason}"),
        };
        // Writing to a string does not fail.
        let _ = writeln!(page, "| `{}` | {} | {} |", setting.name, setting.about, cell(&set));
    }
    page
}

/// The rows of a command, and of those behind it.
fn rows(command: &Command, group: Group, page: &mut String) {
    for subcommand in command.subcommands() {
        rows(subcommand, group, page);
    }
    if command.group != group {
        return;
    }
    let name = command.name.to_ascii_uppercase().replace('|', " ");
    let syntax = if command.syntax.is_empty() { String::new() } else { format!("`{}`", command.syntax) };
    let row = if command.subcommands().is_empty() {
        format!(
            "| `{name}` | {} | {} | {} | {} |",
            cell(&syntax),
            command.since,
            command.summary,
            cell(command.differs)
        )
    } else {
        let (since, differs) = (command.since, cell(command.differs));
        format!("| `{name} HELP` | | {since} | Lists the commands behind it. | {differs} |")
    };
    *page += &row;
    page.push('\n');
}

/// A pipe would end the cell, in code too.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn code_list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_reference_in_the_documents_is_the_one_of_the_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../docs/reference/commands.md");
        let page = command_reference();
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            #[expect(clippy::disallowed_methods, reason = "rewrites a document on demand")]
            std::fs::write(&path, &page).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap();
        assert!(
            written == page,
            "docs/reference/commands.md is old: UPDATE_EXPECT=1 cargo test -p pugdb-server reference"
        );
    }

    #[test]
    fn every_command_has_one_row() {
        let page = command_reference();
        for command in TABLE.iter().flat_map(|command| std::iter::once(command).chain(command.subcommands()))
        {
            let name = command.name.to_ascii_uppercase().replace('|', " ");
            let end = if command.subcommands().is_empty() { "" } else { " HELP" };
            assert_eq!(page.matches(&format!("\n| `{name}{end}` | ")).count(), 1, "{name}");
        }
        let columns = |line: &str| line.replace("\\|", "").matches('|').count();
        assert!(page.lines().filter(|line| line.starts_with('|')).all(|line| matches!(columns(line), 4 | 6)));
    }
}
