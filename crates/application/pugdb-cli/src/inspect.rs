//! `inspect`: what the files of a database are made of. It reads only, also beside a server that has them open.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use pugdb::ErrorKind;
use pugdb::inspect::{self, Detail, Field, Part};
use pugdb::seam::{Cipher, FileKind};
use serde_json::{Map, Value};

use crate::outcome::{Exit, Failure};
use crate::output::{Answer, Format, put_bytes};
use crate::root_key::KeyArguments;
use crate::target::DATA_DEFAULT;
use crate::text::escaped;

/// Print what log segments, tables and manifests are made of
#[derive(Args, Debug)]
#[command(after_help = "\
Without KIND it prints a line for each file of the database, with KIND every record, edit or block of the files of that kind,
or of the files that are named. It reads only and takes no lock: a server may run on the directory, and what it writes
meanwhile may be missing at the end. Keys and names of keyspaces appear as lengths, unless --show-keys; values never appear.
Behind damage it goes on where it can, and the code is 3.

Examples:
  pugdb inspect
  pugdb inspect manifest --data /var/lib/pugdb --show-keys
  pugdb inspect log pugdb-data/log/0-0000000003.log --entries --json")]
pub(crate) struct InspectArguments {
    /// The kind of file
    #[arg(value_enum)]
    kind: Option<Kind>,
    /// The files [default: all of that kind in --data]
    #[arg(requires = "kind")]
    files: Vec<PathBuf>,
    /// The directory of the database
    #[arg(long, value_name = "DIR", default_value = DATA_DEFAULT, conflicts_with = "files")]
    data: PathBuf,
    #[command(flatten)]
    keys: KeyArguments,
    /// Print every entry too: its seqno, the lengths of key and value
    #[arg(long, requires = "kind")]
    entries: bool,
    /// Print keys and names of keyspaces
    #[arg(long)]
    show_keys: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Log,
    Table,
    Manifest,
    Values,
    /// Shown by `pugdb audit show`, and never here.
    #[value(skip)]
    Audit,
}

impl Kind {
    fn of(kind: FileKind) -> Self {
        match kind {
            FileKind::Log => Self::Log,
            FileKind::Table => Self::Table,
            FileKind::Manifest => Self::Manifest,
            FileKind::Values => Self::Values,
            FileKind::Audit => Self::Audit,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Log => "log segment",
            Self::Table => "table",
            Self::Manifest => "manifest",
            Self::Values => "value file",
            Self::Audit => "audit segment",
        }
    }

    /// What the name of a file in a database says.
    fn of_name(path: &Path) -> Self {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("log") => Self::Log,
            Some("table") => Self::Table,
            Some("values") => Self::Values,
            _ => Self::Manifest,
        }
    }
}

pub(crate) fn inspect(arguments: &InspectArguments, format: Format) -> Result<Exit, Failure> {
    let files = if arguments.files.is_empty() { list(arguments)? } else { arguments.files.clone() };
    let mut printer = Printer { stdout: Answer::new(), format, show_keys: arguments.show_keys };
    let mut exit = Exit::Done;
    let cipher = arguments.keys.cipher(&arguments.data)?;
    for file in files {
        let seen = match arguments.kind {
            Some(kind) => show(&file, kind, &*cipher, arguments, &mut printer),
            None => summarize(&file, &*cipher, &mut printer),
        };
        if seen? == Exit::Partial {
            exit = Exit::Partial;
        }
    }
    printer.stdout.finish()?;
    Ok(exit)
}

/// The files of the database that are wanted.
fn list(arguments: &InspectArguments) -> Result<Vec<PathBuf>, Failure> {
    let files = inspect::files(&arguments.data).map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            Failure::new(Exit::NotFound, format!("there is no database in {}", arguments.data.display()))
        }
        _ => error.into(),
    })?;
    Ok(files
        .into_iter()
        .filter(|file| arguments.kind.is_none_or(|kind| Kind::of_name(file) == kind))
        .collect())
}

/// One file, part by part.
fn show(
    file: &Path,
    kind: Kind,
    cipher: &dyn Cipher,
    arguments: &InspectArguments,
    printer: &mut Printer,
) -> Result<Exit, Failure> {
    let detail = if arguments.entries { Detail::Entries } else { Detail::Structure };
    let name = file.display().to_string();
    printer.title(&name)?;
    let mut failed = None;
    let seen = inspect::file(file, cipher, detail, &mut |part| {
        printer.part(&name, &part).map_err(|failure| {
            failed = Some(failure);
            pugdb::Error::closed("nobody reads any more")
        })
    });
    if let Some(failure) = failed {
        return Err(failure);
    }
    match seen {
        Ok(seen) if Kind::of(seen.kind) != kind => {
            Err(Failure::usage(format!("{name} is a {}, not a {}", Kind::of(seen.kind).name(), kind.name())))
        }
        Ok(seen) => {
            printer.end(&name, seen.end, &seen.reason)?;
            Ok(if seen.damaged { Exit::Partial } else { Exit::Done })
        }
        Err(error) => unreadable(&name, error, printer),
    }
}

/// One file on one line.
fn summarize(file: &Path, cipher: &dyn Cipher, printer: &mut Printer) -> Result<Exit, Failure> {
    let name = file.display().to_string();
    let kind = Kind::of_name(file);
    let (mut parts, mut of_header) = (0_u64, Vec::new());
    let seen = inspect::file(file, cipher, Detail::Structure, &mut |part| {
        match part.what {
            "header" => of_header = part.fields,
            "record" | "block" => parts += 1,
            _ => {}
        }
        Ok(())
    });
    let seen = match seen {
        Ok(seen) => seen,
        Err(error) => return unreadable(&name, error, printer),
    };
    // Kind and format follow from the file; the database is the same for all.
    of_header.retain(|(name, _)| !matches!(*name, "kind" | "format" | "database"));
    let mut fields = vec![(if kind == Kind::Table { "blocks" } else { "records" }, Field::Number(parts))];
    fields.push(("used_bytes", seen.end.into()));
    fields.extend(of_header);
    if seen.damaged {
        fields.push(("damage", seen.reason.into()));
    }
    printer.line(&name, kind.name(), &fields, None)?;
    Ok(if seen.damaged { Exit::Partial } else { Exit::Done })
}

/// A file that does not even begin well is told, and the others are looked at all the same.
fn unreadable(name: &str, error: pugdb::Error, printer: &mut Printer) -> Result<Exit, Failure> {
    if error.kind() != ErrorKind::Corrupt {
        return Err(Failure::from(error));
    }
    printer.line(name, "damage", &[("reason", error.to_string().into())], Some((0, 0)))?;
    Ok(Exit::Partial)
}

struct Printer {
    stdout: Answer,
    format: Format,
    show_keys: bool,
}

impl Printer {
    fn title(&mut self, name: &str) -> Result<(), Failure> {
        if self.format == Format::Text { self.stdout.line(name) } else { Ok(()) }
    }

    fn part(&mut self, file: &str, part: &Part) -> Result<(), Failure> {
        self.line(file, part.what, &part.fields, Some((part.offset, part.bytes)))
    }

    fn end(&mut self, file: &str, end: u64, reason: &str) -> Result<(), Failure> {
        self.line(file, "end", &[("reason", reason.into())], Some((end, 0)))
    }

    /// A part of a file, or a file when there is no place.
    fn line(
        &mut self,
        file: &str,
        what: &str,
        fields: &[(&'static str, Field)],
        place: Option<(u64, u64)>,
    ) -> Result<(), Failure> {
        if self.format == Format::Json {
            return self.stdout.json(&self.object(file, what, fields, place));
        }
        let mut line = match place {
            Some((offset, _)) => format!("{offset:>12}  {what}"),
            None => format!("{file}: {what}"),
        };
        for (name, field) in fields {
            let value = match field {
                Field::Number(number) => number.to_string(),
                Field::Text(text) if text.contains(' ') => format!("{text:?}"),
                Field::Text(text) => text.clone(),
                Field::User(bytes) if self.show_keys => {
                    format!("\"{}\"", escaped(bytes).replace('"', "\\x22"))
                }
                Field::User(bytes) => format!("({} bytes)", bytes.len()),
            };
            let _ = write!(line, "  {name}={value}");
        }
        if let Some((_, bytes)) = place.filter(|&(_, bytes)| bytes > 0) {
            let _ = write!(line, "  bytes={bytes}");
        }
        self.stdout.line(&line)
    }

    fn object(
        &self,
        file: &str,
        what: &str,
        fields: &[(&'static str, Field)],
        place: Option<(u64, u64)>,
    ) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("file".to_owned(), file.into());
        object.insert("what".to_owned(), what.into());
        if let Some((offset, bytes)) = place {
            object.insert("offset".to_owned(), offset.into());
            object.insert("bytes".to_owned(), bytes.into());
        }
        for (name, field) in fields {
            // An edit that adds a table tells the bytes of the table.
            let name = if object.contains_key(*name) { format!("{what}_{name}") } else { (*name).to_owned() };
            match field {
                Field::Number(number) => object.insert(name, (*number).into()),
                Field::Text(text) => object.insert(name, text.clone().into()),
                Field::User(bytes) if self.show_keys => {
                    put_bytes(&mut object, &name, bytes);
                    None
                }
                Field::User(bytes) => object.insert(format!("{name}_bytes"), bytes.len().into()),
            };
        }
        object
    }
}
