//! What the line editor asks the shell: how a word could go on, and whether a command is whole.

use std::cell::RefCell;
use std::rc::Rc;

use rustyline::completion::{Completer, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper};

use super::commands::{COMMANDS, Completes, find};
use super::session::Session;
use super::words::{State, quote, split};

/// Answers for the session.
pub(super) struct ShellHelper(pub(super) Rc<RefCell<Session>>);

impl ShellHelper {
    /// How the word that is being typed could go on.
    fn candidates(&self, words: &[Vec<u8>], typed: &[u8]) -> Vec<Vec<u8>> {
        let mut session = self.0.borrow_mut();
        let Some(name) = words.first() else { return command_names(&mut session, typed) };
        let completes = match find(name) {
            Some(command) => command.completes,
            // Most commands of Redis have a key there.
            None if session.local().is_none() => Completes::Key,
            None => Completes::Nothing,
        };
        match completes {
            Completes::Key if words.len() == 1 => session.keys_of(typed),
            Completes::Keys => session.keys_of(typed),
            Completes::Keyspace if words.len() == 1 => {
                begin_so(session.keyspaces().unwrap_or_default().into_iter().map(String::into_bytes), typed)
            }
            Completes::Command if words.len() == 1 => {
                begin_so(COMMANDS.iter().map(|command| command.name.as_bytes().to_vec()), typed)
            }
            _ => Vec::new(),
        }
    }
}

fn command_names(session: &mut Session, typed: &[u8]) -> Vec<Vec<u8>> {
    let own = COMMANDS.iter().map(|command| command.name.to_owned());
    // The server's are many: not before a letter is typed.
    let servers = if typed.is_empty() { Vec::new() } else { session.server_commands() };
    begin_so(own.chain(servers).map(String::into_bytes), typed)
}

fn begin_so(names: impl Iterator<Item = Vec<u8>>, typed: &[u8]) -> Vec<Vec<u8>> {
    names.filter(|name| name.starts_with(typed)).collect()
}

impl Completer for ShellHelper {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let mut split = split(&line.as_bytes()[..position]);
        if matches!(split.state, State::Wrong(_)) {
            return Ok((position, Vec::new()));
        }
        let typed = if split.in_word { split.list.pop().unwrap_or_default() } else { Vec::new() };
        let spelled = self.candidates(&split.list, &typed).into_iter().map(|word| quote(&word));
        let pairs = spelled.map(|word| Pair { display: word.clone(), replacement: format!("{word} ") });
        Ok((split.last_start, pairs.collect()))
    }
}

impl Validator for ShellHelper {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(match split(context.input().as_bytes()).state {
            State::Open => ValidationResult::Incomplete,
            State::Whole | State::Wrong(_) => ValidationResult::Valid(None),
        })
    }
}

impl Hinter for ShellHelper {
    type Hint = String;
}

impl Highlighter for ShellHelper {}

impl Helper for ShellHelper {}

#[cfg(test)]
mod tests {
    use pugdb::Database;
    use rustyline::history::MemHistory;

    use super::*;
    use crate::arguments::Target;
    use crate::interrupt::Interrupt;
    use crate::output::Format;
    use crate::root_key::KeyArguments;

    fn complete(helper: &ShellHelper, line: &str) -> (usize, Vec<String>) {
        let history = MemHistory::new();
        let (start, pairs) = helper.complete(line, line.len(), &Context::new(&history)).unwrap();
        (start, pairs.into_iter().map(|pair| pair.replacement).collect())
    }

    #[test]
    fn commands_keys_and_keyspaces_are_completed() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let db = Database::open(&data).unwrap();
        let keyspace = db.keyspace("db0").unwrap();
        for number in 0..60 {
            keyspace.put(format!("many:{number:02}"), b"").unwrap();
        }
        keyspace.put(b"user 1", b"").unwrap();
        db.keyspace("users").unwrap();
        db.close().unwrap();
        let target = Target {
            data: Some(data),
            url: None,
            user: None,
            password_file: None,
            keyspace: None,
            memory: None,
            read_only: false,
            keys: KeyArguments::default(),
            no_encryption: false,
            tls: crate::tls::ClientTls::default(),
        };
        let session = Session::open(&target, Format::Text, true, Interrupt::idle()).unwrap();
        let helper = ShellHelper(Rc::new(RefCell::new(session)));
        assert_eq!(complete(&helper, "ex"), (0, vec!["exists ".into(), "expire ".into(), "exit ".into()]));
        assert_eq!(complete(&helper, "get us"), (4, vec!["\"user 1\" ".into()]));
        assert_eq!(complete(&helper, "get \"user "), (4, vec!["\"user 1\" ".into()]));
        assert_eq!(complete(&helper, "get many:").1.len(), 50);
        assert_eq!(complete(&helper, "delete many:00 many:59"), (15, vec!["many:59 ".into()]));
        assert_eq!(complete(&helper, "put many:00 many:"), (12, Vec::new()));
        assert_eq!(complete(&helper, "use u"), (4, vec!["users ".into()]));
        assert_eq!(complete(&helper, "help ge"), (5, vec!["get ".into()]));
        assert_eq!(complete(&helper, "nonsense a"), (9, Vec::new()));
    }
}
