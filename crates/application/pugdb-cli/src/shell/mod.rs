//! `shell`: commands typed by a person, or a script on stdin.
//!
//! | file | its part |
//! |---|---|
//! | `words` | a line to words |
//! | `commands` | the table of commands |
//! | `session` | the database or the connection, and the keyspace |
//! | `render`, `table` | replies and tables |
//! | `complete`, `history` | what the line editor needs |

mod commands;
mod complete;
mod history;
mod render;
mod session;
mod table;
mod words;

use std::cell::RefCell;
use std::io::{self, BufRead, BufReader, IsTerminal as _, Read as _};
use std::path::PathBuf;
use std::rc::Rc;

use clap::Args;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Behavior, CompletionType, Config, Editor};

use crate::arguments::Target;
use crate::interrupt::Interrupt;
use crate::outcome::{Exit, Failure};
use crate::output::{self, Format};
use crate::patient::PatientStdin;
use commands::Flow;
use complete::ShellHelper;
use session::Session;
use words::State;

/// A command of a script, its further lines included.
const COMMAND_BYTES_MAX: usize = 1 << 30;

/// Type commands, or run a script of them
#[derive(Args, Debug)]
#[command(after_help = "\
`help` prints the commands. Tab completes commands, keys and keyspaces. Ctrl-C clears the line or stops the command, Ctrl-D
ends. Against a server every other word, and any in capitals, goes to it as a Redis command.

When stdin is no terminal it is a script: a command a line, no prompt, plain lines as answers. It stops at the first failure
and ends with its code; --keep-going goes on, and ends with the code of the first failure.

The history is kept in pugdb/history in the user's state directory ($XDG_STATE_HOME or ~/.local/state), for its owner only.
Lines that begin with a blank, and passwords, are not kept.

Examples:
  pugdb shell
  pugdb shell --url redis://127.0.0.1:7379
  printf 'put a 1\\nget a\\n' | pugdb shell --data ./data")]
pub(crate) struct ShellArguments {
    /// A script goes on behind a failure
    #[arg(long)]
    keep_going: bool,
    /// Keep no history, and read none
    #[arg(long)]
    no_history: bool,
    #[command(flatten)]
    pub(crate) target: Target,
}

pub(crate) fn shell(arguments: &ShellArguments, format: Format) -> Result<Exit, Failure> {
    if io::stdin().is_terminal() { interactive(arguments, format) } else { script(arguments, format) }
}

fn script(arguments: &ShellArguments, format: Format) -> Result<Exit, Failure> {
    let mut session = Session::open(&arguments.target, format, false, Interrupt::install())?;
    let mut input = BufReader::new(PatientStdin::new(session.interrupt.clone()));
    let mut first_failure = None;
    let mut number = 0;
    loop {
        let next = next_command(&mut input, &mut number);
        // Between commands as well: `refresh` forgets it. Behind the read: what a pipe ends with then may be half a command.
        session.check_interrupt()?;
        let failed = match next {
            Ok(None) => break,
            Ok(Some((line, words))) => match run_words(&mut session, &words) {
                Ok(Flow::Next) => continue,
                Ok(Flow::End) => break,
                Err(failure) => (line, failure),
            },
            Err(failure) => (number, failure),
        };
        let (line, failure) = failed;
        if failure.message.is_empty() {
            output::failure(&failure);
        } else {
            output::failure(&Failure::new(failure.exit, format!("line {line}: {}", failure.message)));
        }
        let exit = *first_failure.get_or_insert(failure.exit);
        if !arguments.keep_going || matches!(failure.exit, Exit::Interrupted | Exit::Done) {
            session.close()?;
            return Ok(exit);
        }
    }
    session.close()?;
    Ok(first_failure.unwrap_or(Exit::Done))
}

fn run_words(session: &mut Session, words: &words::Words) -> Result<Flow, Failure> {
    match words.state {
        State::Whole => commands::run(session, &words.list),
        State::Open => Err(Failure::usage("a quote is open at the end")),
        State::Wrong(why) => Err(Failure::usage(why)),
    }
}

/// The next command of a script, with the number of its first line. Blank lines and comments are none.
fn next_command(input: &mut dyn BufRead, number: &mut u64) -> Result<Option<(u64, words::Words)>, Failure> {
    let mut command = Vec::new();
    let mut first = 0;
    loop {
        let left = COMMAND_BYTES_MAX - command.len();
        let read = (&mut *input).take(left as u64 + 1).read_until(b'\n', &mut command);
        let read = read.map_err(|error| Failure::io("read the script", &error))?;
        if command.len() > COMMAND_BYTES_MAX {
            return Err(Failure::usage(format!("a command has more than {COMMAND_BYTES_MAX} bytes")));
        }
        if read == 0 {
            return Ok((!command.is_empty()).then(|| (first, words::split(&command))));
        }
        *number += 1;
        if first == 0 {
            first = *number;
            let trimmed = command.trim_ascii();
            if trimmed.is_empty() || trimmed.starts_with(b"#") {
                command.clear();
                first = 0;
                continue;
            }
        }
        let without_end = command.strip_suffix(b"\n").unwrap_or(&command);
        let words = words::split(without_end.strip_suffix(b"\r").unwrap_or(without_end));
        if words.state != State::Open {
            return Ok(Some((first, words)));
        }
    }
}

type LineEditor = Editor<ShellHelper, FileHistory>;

fn interactive(arguments: &ShellArguments, format: Format) -> Result<Exit, Failure> {
    // While a line is typed Ctrl-C is a key; while a command runs it is a signal.
    let interrupt = Interrupt::install_for_keys();
    let session = Rc::new(RefCell::new(Session::open(&arguments.target, format, true, interrupt)?));
    let mut editor = editor(Rc::clone(&session))?;
    let history = if arguments.no_history { None } else { open_history(&mut editor) };
    output::note(&format!("pugdb {}: `help` prints the commands, Ctrl-D ends", env!("CARGO_PKG_VERSION")));
    loop {
        let prompt = format!("{}> ", session.borrow().keyspace());
        let line = match editor.readline(&prompt) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(error) => {
                return Err(Failure::new(Exit::Unavailable, format!("could not read a line: {error}")));
            }
        };
        if line.trim_start().starts_with('#') || line.trim().is_empty() {
            continue;
        }
        if history.is_some() && history::may_be_kept(&line) {
            // Without room for it the shell works as well.
            let _ = editor.add_history_entry(line.as_str());
        }
        if run_text(&mut session.borrow_mut(), &line) == Flow::End {
            break;
        }
    }
    if let Some(path) = history
        && let Err(error) = editor.append_history(&path)
    {
        output::note(&format!("pugdb: could not write the history to {}: {error}", path.display()));
    }
    drop(editor);
    match Rc::try_unwrap(session) {
        Ok(session) => session.into_inner().close(),
        Err(_) => Ok(Exit::Done),
    }
}

/// Runs what was typed, or pasted: a line end outside of quotes ends a command.
fn run_text(session: &mut Session, text: &str) -> Flow {
    let (mut input, mut number) = (text.as_bytes(), 0);
    loop {
        let ran = match next_command(&mut input, &mut number) {
            Ok(None) => return Flow::Next,
            Ok(Some((_, words))) => run_words(session, &words),
            Err(failure) => Err(failure),
        };
        match ran {
            Ok(Flow::Next) => {}
            Ok(Flow::End) => return Flow::End,
            Err(failure) => output::failure(&failure),
        }
    }
}

fn editor(session: Rc<RefCell<Session>>) -> Result<LineEditor, Failure> {
    let failure = |error| Failure::new(Exit::Unavailable, format!("the terminal cannot be used: {error}"));
    let config = Config::builder()
        .max_history_size(history::LINES_MAX)
        .and_then(|config| config.history_ignore_dups(true))
        .map_err(failure)?
        .history_ignore_space(true)
        .completion_type(CompletionType::List)
        .behavior(Behavior::PreferTerm)
        .build();
    let mut editor = LineEditor::with_config(config).map_err(failure)?;
    editor.set_helper(Some(ShellHelper(session)));
    Ok(editor)
}

/// Reads the history; where it lies, if it can be kept.
fn open_history(editor: &mut LineEditor) -> Option<PathBuf> {
    let path = history::place()?;
    let opened = history::prepare(&path).map_err(|error| error.to_string());
    match opened.and_then(|()| editor.load_history(&path).map_err(|error| error.to_string())) {
        Ok(()) => Some(path),
        Err(error) => {
            output::note(&format!("pugdb: no history is kept: {}: {error}", path.display()));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_read_command_by_command() {
        let mut input = b"# a comment\n\nget a\nput b \"1\n2\"\r\nput c \\\n 3\n  # another\nlast".as_slice();
        let mut number = 0;
        let mut next = || {
            let (line, words) = next_command(&mut input, &mut number).unwrap()?;
            let words = words.list.into_iter().map(|word| String::from_utf8(word).unwrap());
            Some((line, words.collect::<Vec<_>>().join("|")))
        };
        assert_eq!(next(), Some((3, "get|a".to_owned())));
        assert_eq!(next(), Some((4, "put|b|1\n2".to_owned())));
        assert_eq!(next(), Some((6, "put|c|3".to_owned())));
        assert_eq!(next(), Some((9, "last".to_owned())));
        assert_eq!(next(), None);
        let mut open = b"put a \"1\n".as_slice();
        let (_, words) = next_command(&mut open, &mut 0).unwrap().unwrap();
        assert_eq!(words.state, State::Open);
    }
}
