//! Reads and runs tests/clients/cases through redis-rs. What the files say is in cases/README.md.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis::{Client, Connection, ConnectionLike as _, RedisError, Value};

use crate::Against;

type Kept = HashMap<String, Vec<u8>>;

/// Runs the files on a server; `differences` holds what was not as they say.
pub struct Runner<'a> {
    client: &'a Client,
    against: Against,
    connections: HashMap<char, Connection>,
    kept: Kept,
    pub differences: Vec<String>,
    pub count: usize,
}

impl<'a> Runner<'a> {
    pub fn new(client: &'a Client, against: Against) -> Self {
        let (connections, kept) = (HashMap::new(), Kept::new());
        Self { client, against, connections, kept, differences: Vec::new(), count: 0 }
    }

    pub fn run_all(&mut self, folder: &Path) {
        let files = folder.read_dir().expect("the folder of the cases is beside this crate");
        let mut files: Vec<_> = files.map(|file| file.expect("it can be listed").path()).collect();
        files.sort();
        for file in files.iter().filter(|file| file.extension().is_some_and(|end| end == "txt")) {
            let text = std::fs::read_to_string(file).expect("cases are text");
            self.run(&file.file_name().unwrap_or_default().to_string_lossy(), &text);
        }
        self.begin_section("");
    }

    fn run(&mut self, name: &str, text: &str) {
        let mut lines = text.lines().enumerate().peekable();
        let mut running = false;
        while let Some((place, line)) = lines.next() {
            if line.starts_with("## ") {
                running = self.begin_section(line);
            }
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(milliseconds) = line.strip_prefix("wait ") {
                if running {
                    std::thread::sleep(Duration::from_millis(
                        milliseconds.parse().expect("wait has a number"),
                    ));
                }
                continue;
            }
            let mut expected = Vec::new();
            while let Some((_, line)) = lines.next_if(|(_, line)| is_expectation(line)) {
                expected.push(line);
            }
            if running {
                self.step(&format!("{name}:{}", place + 1), line, &expected);
            }
        }
    }

    /// Whether the section is to be run.
    fn begin_section(&mut self, title: &str) -> bool {
        self.connections.clear();
        let left_out = title.contains("(pugdb)") && self.against.redis
            || title.contains("(7.2)") && self.against.version < (7, 2);
        if !left_out {
            self.call('a', &[b"FLUSHALL".to_vec()]);
        }
        !left_out
    }

    fn call(&mut self, name: char, words: &[Vec<u8>]) -> Value {
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(word.as_slice());
        }
        let connection = self.connections.entry(name);
        let connection =
            connection.or_insert_with(|| self.client.get_connection().expect("the server is there"));
        connection.req_command(&command).unwrap_or_else(|error| Value::SimpleString(no_reply(&error)))
    }

    fn step(&mut self, place: &str, line: &str, expected: &[&str]) {
        let (name, command) = match line.split_at_checked(3) {
            Some((prefix, command)) if prefix.ends_with("> ") => {
                (prefix.chars().next().unwrap_or('a'), command)
            }
            _ => ('a', line),
        };
        let reply = self.call(name, &words(command, &self.kept));
        let server = if self.against.redis { "redis " } else { "pugdb " };
        let special = expected.iter().find_map(|line| line.strip_prefix(server));
        let common = || {
            expected.iter().copied().find(|line| !line.starts_with("redis ") && !line.starts_with("pugdb "))
        };
        let mine = special.or_else(common).unwrap_or_else(|| panic!("{place}: no reply is expected"));
        self.count += 1;
        if let Some(kept) = mine.strip_prefix("save ") {
            let reply =
                if let Value::BulkString(bytes) = reply { bytes } else { render(&reply).into_bytes() };
            self.kept.insert(kept.to_owned(), reply);
        } else if !holds(mine, &reply, &self.kept) {
            let got = shorten(&render(&reply));
            self.differences
                .push(format!("{place}: {}\n    expected {mine}\n    got      {got}", shorten(line)));
        }
    }
}

fn is_expectation(line: &str) -> bool {
    let verb = line.split(' ').next().unwrap_or_default();
    matches!(verb, "=" | "~" | ".." | "sorted" | "save" | "redis" | "pugdb")
}

/// The words of a command.
fn words(line: &str, kept: &Kept) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let word;
        (word, rest) = match rest.chars().next() {
            Some('"') => unquote(&rest[1..]),
            Some('<') => {
                let (special, rest) = rest[1..].split_once('>').expect("a < has its >");
                (expand(special, kept), rest)
            }
            _ => {
                let end = rest.find(' ').unwrap_or(rest.len());
                (rest[..end].as_bytes().to_vec(), &rest[end..])
            }
        };
        found.push(word);
        rest = rest.trim_start();
    }
    found
}

/// The bytes up to the quote that ends them, and the text behind it.
fn unquote(text: &str) -> (Vec<u8>, &str) {
    let mut bytes = Vec::new();
    let mut characters = text.char_indices();
    while let Some((place, character)) = characters.next() {
        match character {
            '"' => return (bytes, &text[place + 1..]),
            '\\' => match characters.next() {
                Some((place, 'x')) => {
                    let digits = &text[place + 1..place + 3];
                    bytes.push(u8::from_str_radix(digits, 16).expect("\\x has two digits"));
                    characters.nth(1);
                }
                Some((_, 'n')) => bytes.push(b'\n'),
                Some((_, 'r')) => bytes.push(b'\r'),
                Some((_, 't')) => bytes.push(b'\t'),
                Some((_, other)) => bytes.extend(other.to_string().bytes()),
                None => {}
            },
            other => bytes.extend(other.to_string().bytes()),
        }
    }
    (bytes, "")
}

fn expand(special: &str, kept: &Kept) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970");
    let shifted = |now: u128, by: &str| {
        let by: i128 = by.parse().expect("now has a number behind it");
        (i128::try_from(now).expect("it is a time of this age") + by).to_string().into_bytes()
    };
    if let Some(by) = special.strip_prefix("nowms") {
        shifted(now.as_millis(), by)
    } else if let Some(by) = special.strip_prefix("now") {
        shifted(now.as_secs().into(), by)
    } else if let Some((times, text)) = special.split_once('*') {
        unquote(text).0.repeat(times.parse().expect("a number is before the *"))
    } else {
        kept.get(special).cloned().unwrap_or_else(|| panic!("{special} was not saved"))
    }
}

/// A reply in the notation of the cases.
fn render(reply: &Value) -> String {
    match reply {
        Value::Nil => "nil".into(),
        Value::Okay => "\"OK\"".into(),
        Value::Int(number) => number.to_string(),
        Value::BulkString(bytes) => quote(bytes),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => quote(text.as_bytes()),
        Value::Array(parts) | Value::Set(parts) => list(parts),
        Value::Map(pairs) => list(pairs.iter().flat_map(|(key, value)| [key, value])),
        Value::ServerError(error) => {
            format!("!{} {}", error.code(), error.details().unwrap_or_default()).trim_end().to_owned()
        }
        other => format!("(a {other:?})"),
    }
}

fn list<'a>(parts: impl IntoIterator<Item = &'a Value>) -> String {
    let parts: Vec<_> = parts.into_iter().map(render).collect();
    format!("[{}]", parts.join(" "))
}

fn quote(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for &byte in bytes {
        match byte {
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            b'"' => text.push_str("\\\""),
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(byte.into()),
            _ => write!(text, "\\x{byte:02x}").expect("a string takes all that is written"),
        }
    }
    text.push('"');
    text
}

/// Whether a reply is as a line of the cases says.
fn holds(expected: &str, reply: &Value, kept: &Kept) -> bool {
    let (verb, rest) = expected.split_once(' ').unwrap_or((expected, ""));
    match verb {
        "=" => render(reply) == rest,
        "~" => matches(rest, &render(reply)),
        ".." => {
            let bounds = words(rest, kept);
            let bound = |place: usize| -> i64 {
                let text = String::from_utf8_lossy(&bounds[place]);
                text.parse().expect("a bound is a number")
            };
            matches!(reply, Value::Int(number) if (bound(0)..=bound(1)).contains(number))
        }
        "sorted" => {
            let (Value::Array(parts) | Value::Set(parts)) = reply else { return false };
            let mut parts: Vec<_> = parts.iter().map(render).collect();
            parts.sort();
            format!("[{}]", parts.join(" ")) == rest
        }
        _ => panic!("no such expectation: {expected}"),
    }
}

/// Whether a text is a pattern's, where `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts: Vec<_> = pattern.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    if parts.is_empty() {
        return text == last;
    }
    let Some(mut rest) = text.strip_prefix(parts[0]) else { return false };
    for part in &parts[1..] {
        let Some(place) = rest.find(part) else { return false };
        rest = &rest[place + part.len()..];
    }
    rest.ends_with(last)
}

fn no_reply(error: &RedisError) -> String {
    format!("(no reply: {error})")
}

fn shorten(text: &str) -> String {
    text.chars().take(2000).collect()
}
