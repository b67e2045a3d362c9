//! Environment and file: what they say, and what is wrong with it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind::{InvalidUtf8, InvalidValue, ValueValidation};
use clap::{Command, CommandFactory as _};
use toml::Value;

use super::mistake::without_content;
use super::{CONFIG_VARIABLE, PASSWORD_VARIABLE, PREFIX, Row, Values, map_settings, variable};
use crate::arguments::Arguments;
use crate::input::read_up_to;
use crate::outcome::Failure;

/// A file of settings has a few lines.
const FILE_BYTES_MAX: usize = 1 << 20;
const FILE_NAME: &str = "pugdb.toml";
/// Names that differ in more than this part are no slip of the hand.
const SIMILARITY_MIN: f64 = 0.6;

const RANK_FILE: u8 = 1;
const RANK_ENVIRONMENT: u8 = 2;

/// What stands beneath the command line.
#[derive(Debug, Default)]
pub(super) struct Layers {
    environment: BTreeMap<String, Values>,
    file: BTreeMap<String, Values>,
    /// The file, if one was found.
    pub(super) path: Option<PathBuf>,
}

impl Layers {
    /// Reads both. `named` is the file of `--config`.
    pub(super) fn read(rows: &[Row], named: Option<PathBuf>) -> Result<Self, Failure> {
        let environment = environment(std::env::vars_os(), rows)?;
        let named = named.or_else(|| given(CONFIG_VARIABLE).map(PathBuf::from));
        let found = match named {
            Some(path) => Some((read_file(&path).map_err(|error| failure(&path, &error))?, path)),
            None => find()?,
        };
        let Some((text, path)) = found else { return Ok(Self { environment, ..Self::default() }) };
        let file =
            parse(&text, rows).map_err(|message| Failure::usage(format!("{}: {message}", path.display())))?;
        Ok(Self { environment, file, path: Some(path) })
    }

    fn get(&self, name: &str) -> Option<&Values> {
        self.environment.get(name).or_else(|| self.file.get(name))
    }

    /// How strongly a setting is meant that the command line does not give.
    pub(super) fn rank(&self, name: &str) -> u8 {
        if self.environment.contains_key(name) {
            RANK_ENVIRONMENT
        } else if self.file.contains_key(name) {
            RANK_FILE
        } else {
            0
        }
    }

    /// Where the value of a setting comes from.
    pub(super) fn source(&self, name: &str) -> String {
        match self.rank(name) {
            RANK_ENVIRONMENT => format!("environment {}", variable(name)),
            RANK_FILE => format!("file {}", self.path.as_deref().unwrap_or(Path::new(FILE_NAME)).display()),
            _ => "default".to_owned(),
        }
    }

    /// The command line with these values beneath it.
    pub(super) fn beneath(&self, command: Command, rows: &[Row]) -> Command {
        map_settings(command, rows, &|arg, row| match self.get(&row.name) {
            Some(values) => arg.default_values(values.clone()),
            None => arg,
        })
    }
}

/// The value of a variable; an empty one says nothing.
fn given(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The settings in the environment.
fn environment(
    variables: impl Iterator<Item = (OsString, OsString)>,
    rows: &[Row],
) -> Result<BTreeMap<String, Values>, Failure> {
    let mut found = BTreeMap::new();
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        if value.is_empty() || [CONFIG_VARIABLE, PASSWORD_VARIABLE].contains(&name) || is_of_kubernetes(name)
        {
            continue;
        }
        let known: Vec<String> = rows.iter().map(Row::variable).collect();
        let Some(row) = rows.iter().find(|row| row.variable() == name) else {
            let known = known.iter().map(String::as_str).chain([CONFIG_VARIABLE]);
            return Err(Failure::usage(format!(
                "the environment variable {name} is no setting of PugDB{}",
                suggestion(name, known)
            )));
        };
        check(row, std::slice::from_ref(&value))
            .map_err(|message| Failure::usage(format!("{name}: {message}")))?;
        found.insert(row.name.clone(), vec![value]);
    }
    Ok(found)
}

/// Kubernetes gives every container the addresses of its services: those of one called `pugdb` begin like this.
fn is_of_kubernetes(name: &str) -> bool {
    ["PUGDB_SERVICE_", "PUGDB_PORT_"].iter().any(|prefix| name.starts_with(prefix)) || name == "PUGDB_PORT"
}

/// The first of the usual files that is there.
fn find() -> Result<Option<(String, PathBuf)>, Failure> {
    for path in usual_places() {
        match read_file(&path) {
            Ok(text) => return Ok(Some((text, path))),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            // In a directory that is closed to this user (another user's home, say) there is nothing for him.
            Err(error)
                if error.kind() == io::ErrorKind::PermissionDenied && path.symlink_metadata().is_err() => {}
            Err(error) => return Err(failure(&path, &error)),
        }
    }
    Ok(None)
}

/// `./pugdb.toml`, then the user's, then the machine's.
pub(super) fn usual_places() -> Vec<PathBuf> {
    let user = given("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&given("HOME")?).join(".config")));
    let mut places = vec![Path::new(".").join(FILE_NAME)];
    places.extend(user.map(|user| user.join("pugdb").join(FILE_NAME)));
    places.push(Path::new("/etc/pugdb").join(FILE_NAME));
    places
}

fn read_file(path: &Path) -> io::Result<String> {
    let mut file = OpenOptions::new().read(true).open(path)?;
    let bytes = read_up_to(&mut file, FILE_BYTES_MAX)?;
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    text.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it is no text file of at most 1 MiB"))
}

fn failure(path: &Path, error: &io::Error) -> Failure {
    Failure::io(format!("read the settings in {}", path.display()), error)
}

/// The settings in a file, or what is wrong with it.
fn parse(text: &str, rows: &[Row]) -> Result<BTreeMap<String, Values>, String> {
    let table: toml::Table = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        format!("line {line}: {}", error.message())
    })?;
    let mut found = BTreeMap::new();
    for (name, value) in table {
        let Some(row) = rows.iter().find(|row| row.name == name) else {
            let known = rows.iter().map(|row| row.name.as_str());
            return Err(format!("{name:?} is no setting of PugDB{}", suggestion(&name, known)));
        };
        let values = plain(&value).ok_or_else(|| {
            format!("{name} is given as {}; it is text, a whole number, true or false", value.type_str())
        })?;
        if values.len() != 1 && !row.takes_many() {
            return Err(format!("{name} is given as a list; it has one value"));
        }
        check(row, &values).map_err(|message| format!("{name}: {message}"))?;
        found.insert(name, values);
    }
    Ok(found)
}

fn plain(value: &Value) -> Option<Values> {
    match value {
        Value::String(text) => Some(vec![text.into()]),
        Value::Integer(number) => Some(vec![number.to_string().into()]),
        Value::Boolean(is) => Some(vec![is.to_string().into()]),
        Value::Array(values) => {
            let one = |value| plain(value).filter(|values| values.len() == 1);
            Some(values.iter().map(one).collect::<Option<Vec<_>>>()?.concat())
        }
        Value::Float(_) | Value::Datetime(_) | Value::Table(_) => None,
    }
}

/// Asks the command line's own parser.
fn check(row: &Row, values: &[OsString]) -> Result<(), String> {
    if matches!(row.arg.get_action(), clap::ArgAction::SetTrue) {
        let is_word = values.iter().all(|value| value == "true" || value == "false");
        return if is_word { Ok(()) } else { Err("it is true or false".to_owned()) };
    }
    let command = Arguments::command();
    let Some(owner) = command.get_subcommands().find(|command| row.belongs_to(command)) else {
        return Ok(());
    };
    let long = row.arg.get_long().unwrap_or_default();
    let line = values.iter().map(|value| {
        let mut argument = OsString::from(format!("--{long}="));
        argument.push(value);
        argument
    });
    let tried = owner
        .clone()
        .disable_help_flag(true)
        .try_get_matches_from([OsString::from("pugdb")].into_iter().chain(line));
    match tried {
        Err(error) if matches!(error.kind(), InvalidValue | ValueValidation | InvalidUtf8) => {
            let told = without_content(error).to_string();
            let first = told.trim_start_matches("error: ").split("\n\nFor more").next().unwrap_or_default();
            Err(first.trim().replace('\n', " "))
        }
        // What else is missing on this line is not this setting's matter.
        _ => Ok(()),
    }
}

/// `; did you mean …?`, if a known name is near; else all of them.
fn suggestion<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let mut known: Vec<&str> = known.collect();
    known.sort_unstable();
    known.dedup();
    let likeness = |other: &str| strsim::normalized_damerau_levenshtein(name, other);
    let near = known.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match near.filter(|near| likeness(near) >= SIMILARITY_MIN) {
        Some(near) => format!("; did you mean {near}?"),
        None => format!("; there are {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows;
    use super::*;

    #[test]
    fn a_file_is_read_and_a_mistake_in_it_is_named() {
        let rows = rows();
        let found =
            parse("data = \"/srv/db\"\nmemory = \"2GiB\"\nallow_remote_without_encryption = true\n", &rows)
                .unwrap();
        assert_eq!(found["data"], ["/srv/db"]);
        assert_eq!(found["allow_remote_without_encryption"], ["true"]);
        assert_eq!(parse("memory = 4096000\n", &rows).unwrap()["memory"], ["4096000"]);
        for (text, parts) in [
            ("memry = 1\n", &["\"memry\" is no setting", "did you mean memory?"][..]),
            ("frobnicate = 1\n", &["no setting", "there are", "durability"]),
            ("a = 1\nb = [\n", &["line 2"]),
            ("memory = \"lots\"\n", &["memory: ", "64MiB"]),
            ("memory = 1.5\n", &["memory is given as float"]),
            ("durability = \"maybe\"\n", &["durability: ", "sync"]),
            ("url = \"http://x\"\n", &["url: ", "redis://"]),
            ("data = [\"a\", \"b\"]\n", &["data is given as a list"]),
            ("allow_remote_without_encryption = \"yes\"\n", &["true or false"]),
            ("[serve]\nresp = \"x\"\n", &["\"serve\" is no setting"]),
        ] {
            let message = parse(text, &rows).unwrap_err();
            for part in parts {
                assert!(message.contains(part), "{part} in {message}");
            }
        }
    }

    #[test]
    fn variables_are_read_and_unknown_ones_refused() {
        let rows = rows();
        let read = |variables: &[(&str, &str)]| {
            environment(variables.iter().map(|(name, value)| ((*name).into(), (*value).into())), &rows)
        };
        let found =
            read(&[("PUGDB_DATA", "/srv"), ("HOME", "/"), ("PUGDB_URL", ""), ("PUGDB", "x")]).unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [("data".to_owned(), vec!["/srv".into()])]);
        let kubernetes = [("PUGDB_SERVICE_HOST", "10.0.0.1"), ("PUGDB_PORT", "tcp://10.0.0.1:7379")];
        assert!(read(&kubernetes).unwrap().is_empty());
        let message = read(&[("PUGDB_DURABLITY", "os")]).unwrap_err().message;
        assert!(message.contains("did you mean PUGDB_DURABILITY?"), "{message}");
        let message = read(&[("PUGDB_MEMORY", "lots")]).unwrap_err().message;
        assert!(message.starts_with("PUGDB_MEMORY: ") && message.contains("64MiB"), "{message}");
    }
}
