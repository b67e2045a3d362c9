//! What a command answers when it cannot do what it is asked, in the words of Redis where Redis has some.

use std::borrow::Cow;

use pugdb::{Error, ErrorKind};
use pugdb_wire::resp::Reply;

use crate::limits::ECHO_BYTES_MAX;

/// An error reply: a word in capitals for programs, then a sentence for people. It never holds a key or a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    text: Cow<'static, str>,
    /// The database could not do it, whatever the request: a transaction ends with it.
    of_database: bool,
}

impl Failure {
    pub(crate) const SYNTAX: Self = Self::new("ERR syntax error");
    pub(crate) const NOT_AN_INTEGER: Self = Self::new("ERR value is not an integer or out of range");
    pub(crate) const OVERFLOW: Self = Self::new("ERR increment or decrement would overflow");
    pub(crate) const WRONG_TYPE: Self =
        Self::new("WRONGTYPE Operation against a key holding the wrong kind of value");
    pub(crate) const STRING_TOO_LONG: Self =
        Self::new("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
    pub(crate) const NO_SUCH_KEY: Self = Self::new("ERR no such key");
    pub(crate) const SAME_OBJECT: Self = Self::new("ERR source and destination objects are the same");
    pub(crate) const NO_SUCH_DATABASE: Self = Self::new("ERR DB index is out of range");
    pub(crate) const INVALID_CURSOR: Self = Self::new("ERR invalid cursor");
    pub(crate) const LATER: Self =
        Self::new("ERR this command is not in this version of PugDB; COMMAND LIST names those that are");
    pub(crate) const NO_AUTH: Self = Self::new("NOAUTH Authentication required.");
    pub(crate) const WRONG_PASSWORD: Self =
        Self::new("WRONGPASS invalid username-password pair or user is disabled.");
    pub(crate) const TOO_MANY_LOGINS: Self =
        Self::new("ERR too many logins from this address have failed; wait some seconds and try again");
    pub(crate) const INTERNAL: Self = Self::new("ERR internal error");
    pub(crate) const TOO_MANY_CLIENTS: Self = Self::new("ERR max number of clients reached");
    pub(crate) const OUT_OF_BUFFERS: Self =
        Self::new("OOM the commands and replies under way take all memory for buffers; try again");
    pub(crate) const REPLY_TOO_LARGE: Self =
        Self::new("ERR the reply is larger than 512 MiB; ask for fewer keys. The command was carried out");
    pub(crate) const REPLY_OUT_OF_BUFFERS: Self = Self::new(
        "OOM the reply does not fit into the memory for buffers. The command was carried out; ask for less",
    );

    pub(crate) const fn new(text: &'static str) -> Self {
        Self { text: Cow::Borrowed(text), of_database: false }
    }

    pub(crate) fn owned(text: String) -> Self {
        Self { text: Cow::Owned(text), of_database: false }
    }

    pub(crate) fn arguments(command: &str) -> Self {
        Self::owned(format!("ERR wrong number of arguments for '{command}' command"))
    }

    pub(crate) fn expiry(command: &str) -> Self {
        Self::owned(format!("ERR invalid expire time in '{command}' command"))
    }

    /// Redis repeats the arguments here; they may be anybody's data, so this does not. The name is shown if it looks
    /// like one.
    pub(crate) fn unknown_command(name: &[u8]) -> Self {
        printable(name).map_or(Self::new("ERR unknown command"), |name| {
            Self::owned(format!("ERR unknown command '{name}'"))
        })
    }

    pub(crate) fn unknown_subcommand(container: &str, name: &[u8]) -> Self {
        let container = container.to_ascii_uppercase();
        let name = printable(name).map_or(String::new(), |name| format!(" '{name}'"));
        Self::owned(format!("ERR unknown subcommand{name}. Try {container} HELP."))
    }

    /// Whether it is a value that nobody can read any more.
    pub(crate) fn is_erased(&self) -> bool {
        self.text.starts_with("ERASED ")
    }

    /// Whether it came from the database.
    pub(crate) fn is_of_database(&self) -> bool {
        self.of_database
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn to_reply(&self) -> Reply {
        Reply::Error(self.text.clone())
    }
}

/// The one table from a database's errors to what a client sees. Redis clients look at the first word: `ERR` is a
/// wrong request, the others are a state of the server that an operator has to look at.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let word = match error.kind() {
            ErrorKind::Invalid | ErrorKind::NotFound | ErrorKind::Conflict => "ERR",
            // As Redis says it when its memory is full: who writes has to delete first.
            ErrorKind::Unavailable if error.is_over_quota() => "OOM",
            ErrorKind::Unavailable => "UNAVAILABLE",
            ErrorKind::Closed => "UNAVAILABLE the server is shutting down:",
            ErrorKind::Denied => "NOPERM",
            ErrorKind::Corrupt => "CORRUPT",
            ErrorKind::Unsupported => "UNSUPPORTED",
            ErrorKind::Erased => "ERASED",
            ErrorKind::Internal => "ERR internal error:",
        };
        // One value that was erased says nothing of the database.
        let of_database = error.kind() != ErrorKind::Erased;
        Self { of_database, ..Self::owned(format!("{word} {error}")) }
    }
}

/// A name that is short and harmless; anything else may be somebody's data in the wrong place.
pub(crate) fn printable(name: &[u8]) -> Option<&str> {
    let harmless = (1..=ECHO_BYTES_MAX).contains(&name.len())
        && name.iter().all(|byte| matches!(byte, b'!'..=b'~') && *byte != b'\'');
    if harmless { std::str::from_utf8(name).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_database_begin_with_a_word_for_programs() {
        let cases = [
            (Error::invalid("x"), "ERR x"),
            (Error::not_found("x"), "ERR x"),
            (Error::conflict("x"), "ERR x"),
            (Error::unavailable("x"), "UNAVAILABLE x"),
            (Error::over_quota("x"), "OOM x"),
            (Error::closed("x"), "UNAVAILABLE the server is shutting down: x"),
            (Error::denied("x"), "NOPERM x"),
            (Error::corrupt("x"), "CORRUPT x"),
            (Error::unsupported("x"), "UNSUPPORTED x"),
            (Error::internal("x"), "ERR internal error: x"),
        ];
        for (error, text) in cases {
            assert_eq!(Failure::from(error).to_reply(), Reply::error(text));
        }
    }

    #[test]
    fn only_what_looks_like_a_name_is_repeated() {
        assert_eq!(Failure::unknown_command(b"foo").text, "ERR unknown command 'foo'");
        for secret in [&b""[..], b"a b", b"\r\n+OK", b"it's", &[b'x'; 33], "käse".as_bytes()] {
            assert_eq!(Failure::unknown_command(secret).text, "ERR unknown command");
        }
    }
}
