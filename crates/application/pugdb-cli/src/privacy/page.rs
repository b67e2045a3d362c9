//! The report itself. What is printed as text is what `--json` gives, so the two cannot differ.

use std::path::Path;

use pugdb::keys::{KeyAge, KeyStatus};
use pugdb::privacy::{FileGroup, FileSeal, PrivacyReport};
use pugdb::seam::FileKind;
use pugdb::{KeyspaceId, Persistence, Result, Timestamp};
use serde::Serialize;

use super::custody::{Seen, strangers};
use super::places::{PROTECTS, PlainText, always};
use crate::outcome::Failure;
use crate::output::Answer;
use crate::root_key::KeyArguments;
use crate::text::{count, escaped, human_bytes};

const DAY_MS: u64 = 86_400_000;

#[derive(Debug, Serialize)]
pub(super) struct Page {
    pugdb: &'static str,
    data: String,
    at: String,
    encrypted: bool,
    keys: Option<KeyFacts>,
    keyspaces: Vec<KeyspaceRow>,
    files: Vec<FileRow>,
    unreadable: Vec<String>,
    plain: Vec<PlainText>,
    /// What lies in the directory and is not PugDB's.
    other_files: Vec<String>,
    audit: bool,
    users: usize,
    anybody_may_log_in: bool,
    telemetry: &'static str,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct KeyFacts {
    database: String,
    new_files_are_sealed_with: &'static str,
    keyring_generation: u64,
    keyring_bytes: u64,
    root_key: String,
    root_key_protects: &'static str,
    old_root_keys_are_destroyed: bool,
    key_file: Option<KeyFilePlace>,
    database_keys: Vec<Age>,
    erased_subjects: usize,
    erased_keyspaces: usize,
    held_subjects: usize,
    held_keyspaces: usize,
}

#[derive(Debug, Serialize)]
struct KeyFilePlace {
    path: String,
    mode: String,
    inside_data: bool,
}

#[derive(Debug, Serialize)]
struct Age {
    number: u64,
    made_at: String,
    days: u64,
}

impl Age {
    fn all(keys: &[KeyAge], now: Timestamp) -> Vec<Self> {
        let age = |key: &KeyAge| Self {
            number: key.number,
            made_at: key.made_at.utc(),
            days: now.0.saturating_sub(key.made_at.0) / DAY_MS,
        };
        keys.iter().map(age).collect()
    }

    fn text(keys: &[Self]) -> String {
        let one = |age: &Self| {
            let days = count(age.days, "day", "days");
            format!("{} of {} ({days})", age.number, age.made_at.split('T').next().unwrap_or_default())
        };
        keys.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

#[derive(Debug, Serialize)]
struct KeyspaceRow {
    keyspace: String,
    id: u32,
    on_disk: bool,
    keys: Vec<Age>,
}

#[derive(Debug, Serialize)]
struct FileRow {
    kind: &'static str,
    keyspace: Option<String>,
    keyspace_id: Option<u32>,
    /// `sealed`, `plain` or `erased`.
    state: &'static str,
    algorithm: Option<&'static str>,
    key_generation: Option<u64>,
    files: u64,
    bytes: u64,
}

impl FileRow {
    fn of(group: &FileGroup, names: &[KeyspaceRow]) -> Self {
        let name = |id: KeyspaceId| {
            let found = names.iter().find(|space| space.id == id.0);
            found.map_or_else(|| format!("dropped, number {id}"), |space| space.keyspace.clone())
        };
        let (state, with) = match group.seal {
            FileSeal::Plain => ("plain", None),
            FileSeal::Sealed(with) => ("sealed", Some(with)),
            FileSeal::Erased => ("erased", None),
        };
        Self {
            kind: kind(group.kind),
            keyspace: group.keyspace.map(name),
            keyspace_id: group.keyspace.map(|id| id.0),
            state,
            algorithm: with.map(|with| with.algorithm),
            key_generation: with.and_then(|with| with.generation),
            files: group.files,
            bytes: group.bytes,
        }
    }
}

fn kind(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Log => "log",
        FileKind::Table => "tables",
        FileKind::Manifest => "manifest",
        FileKind::Values => "value files",
        FileKind::Audit => "audit log",
    }
}

impl Page {
    pub(super) fn of(
        report: &PrivacyReport,
        place: &KeyArguments,
        data: &Path,
        now: Timestamp,
    ) -> Result<Self> {
        let key_file = match &report.keys {
            Some(_) => place.key_file(data)?.and_then(|path| Seen::at(&path)),
            None => None,
        };
        let keyspaces = keyspaces(report, now);
        let files: Vec<_> = report.files.iter().map(|group| FileRow::of(group, &keyspaces)).collect();
        let mut page = Self {
            pugdb: env!("CARGO_PKG_VERSION"),
            data: data.display().to_string(),
            at: now.utc(),
            encrypted: report.keys.is_some(),
            keys: report.keys.as_ref().map(|keys| KeyFacts::of(keys, report, key_file.as_ref(), data, now)),
            plain: plain(report.keys.is_some(), &files),
            keyspaces,
            files,
            unreadable: report.unreadable.clone(),
            other_files: strangers(data),
            audit: report.is_audited,
            users: report.users,
            anybody_may_log_in: report.is_open_to_all,
            telemetry: "none",
            warnings: Vec::new(),
        };
        page.warnings = page.warn(Seen::at(data).as_ref());
        Ok(page)
    }

    fn warn(&self, data: Option<&Seen>) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut warn = |is_so: bool, text: &str| warnings.extend(is_so.then(|| text.to_owned()));
        warn(
            !self.encrypted,
            "the database is not encrypted: who has its files, or a copy of them, reads everything",
        );
        warn(
            !self.encrypted && data.is_some_and(Seen::is_shared),
            "others than its owner may enter the data directory: chmod 700 it",
        );
        warn(
            self.keys.as_ref().and_then(|keys| keys.key_file.as_ref()).is_some_and(|file| file.inside_data),
            "the key file lies inside the data directory: every copy of the data has its key; move it, and rotate",
        );
        warn(
            self.encrypted && self.files.iter().any(|files| files.state == "plain"),
            "some files are plain, as the table of files says",
        );
        warn(
            !self.other_files.is_empty(),
            "files that are not PugDB's lie in the data directory; none of them is sealed",
        );
        warn(
            !self.unreadable.is_empty(),
            "some files could not be read; if they stay so, run `pugdb verify`",
        );
        warn(
            self.anybody_may_log_in,
            "whoever reaches a server's port may log in without a password: make users (`pugdb acl`)",
        );
        warnings
    }
}

impl KeyFacts {
    fn of(
        keys: &KeyStatus,
        report: &PrivacyReport,
        file: Option<&Seen>,
        data: &Path,
        now: Timestamp,
    ) -> Self {
        Self {
            database: keys.database.to_string(),
            new_files_are_sealed_with: keys.algorithm.name(),
            keyring_generation: keys.keyring_generation,
            keyring_bytes: keys.keyring_bytes,
            root_key: keys.provider.clone(),
            root_key_protects: keys.protects,
            old_root_keys_are_destroyed: keys.destroys,
            key_file: file.map(|seen| KeyFilePlace {
                path: seen.path.display().to_string(),
                mode: seen.rights(),
                inside_data: seen.is_inside(data),
            }),
            database_keys: Age::all(&keys.database_keys, now),
            erased_subjects: keys.erased_subjects,
            erased_keyspaces: keys.erased_keyspaces.len(),
            held_subjects: report.held_subjects,
            held_keyspaces: report.held_keyspaces,
        }
    }
}

fn keyspaces(report: &PrivacyReport, now: Timestamp) -> Vec<KeyspaceRow> {
    let ages = |id| {
        let of = |keys: &KeyStatus| {
            let found = keys.keyspaces.iter().find(|space| space.keyspace == id)?;
            Some(Age::all(&found.keys, now))
        };
        report.keys.as_ref().and_then(of).unwrap_or_default()
    };
    let one = |space: &pugdb::privacy::KeyspacePrivacy| KeyspaceRow {
        keyspace: space.name.clone(),
        id: space.id.0,
        on_disk: space.persistence == Persistence::Durable,
        keys: if space.persistence == Persistence::Durable { ages(space.id) } else { Vec::new() },
    };
    report.keyspaces.iter().map(one).collect()
}

/// What is plain text here: what is plain in the files, then what always is.
fn plain(is_encrypted: bool, files: &[FileRow]) -> Vec<PlainText> {
    let mut places = Vec::new();
    if !is_encrypted {
        places.push(PlainText::new(
            "log, tables, value files, manifest, audit log",
            "keys, values, names of keyspaces and users, who did what",
            "the database was made without a root key",
        ));
    }
    let left_plain = files.iter().filter(|files| is_encrypted && files.state == "plain");
    places.extend(left_plain.map(|files| {
        let of = files.keyspace.as_ref().map(|name| format!(" of the keyspace {name}")).unwrap_or_default();
        PlainText::new(
            format!("{}{of}: {}", files.kind, count(files.files, "file", "files")),
            "keys and values",
            "they were made so",
        )
    }));
    places.extend(always());
    places
}

impl Page {
    pub(super) fn print(&self) -> std::result::Result<(), Failure> {
        let mut out = Answer::new();
        out.line(&format!("# Privacy of {}", escaped(self.data.as_bytes())))?;
        out.line("")?;
        out.line(&format!("PugDB {}, {}", self.pugdb, self.at))?;
        self.print_warnings(&mut out)?;
        self.print_keys(&mut out)?;
        self.print_files(&mut out)?;
        section(&mut out, "What is plain text, and why")?;
        let rows =
            self.plain.iter().map(|place| [place.place.clone(), place.holds.clone(), place.why.clone()]);
        table(&mut out, ["where", "what it holds", "why"], rows)?;
        out.line("")?;
        out.line("Keyspaces in memory never touch the disk.")?;
        for name in &self.other_files {
            out.line(&format!("Not PugDB's, in the data directory: `{}`.", escaped(name.as_bytes())))?;
        }
        if self.encrypted {
            section(&mut out, "Who sees what")?;
            let rows = PROTECTS.iter().map(|row| row.map(str::to_owned));
            table(&mut out, ["who", "sees"], rows)?;
        }
        self.print_people(&mut out)?;
        out.finish()
    }

    fn print_warnings(&self, out: &mut Answer) -> std::result::Result<(), Failure> {
        if self.warnings.is_empty() {
            return Ok(());
        }
        section(out, "To be looked at")?;
        self.warnings.iter().try_for_each(|warning| out.line(&format!("* {warning}")))
    }

    fn print_keys(&self, out: &mut Answer) -> std::result::Result<(), Failure> {
        section(out, "Encryption")?;
        let Some(keys) = &self.keys else {
            return out.line("**Not encrypted.** `pugdb init` makes an encrypted database; what is here can be exported and imported there.");
        };
        let yes = |is_so: bool| if is_so { "yes" } else { "no" }.to_owned();
        let mut rows = vec![
            [
                "encrypted".to_owned(),
                format!("yes: a key for each file, {} for new ones", keys.new_files_are_sealed_with),
            ],
            ["database".to_owned(), keys.database.clone()],
            ["root key".to_owned(), format!("in {}", keys.root_key)],
            ["that protects".to_owned(), keys.root_key_protects.to_owned()],
            ["a rotation destroys the old root key".to_owned(), yes(keys.old_root_keys_are_destroyed)],
        ];
        if let Some(file) = &keys.key_file {
            rows.push(["rights of the key file".to_owned(), file.mode.clone()]);
            rows.push(["inside the data directory".to_owned(), yes(file.inside_data)]);
        }
        rows.extend([
            [
                "keyring".to_owned(),
                format!("generation {}, {}", keys.keyring_generation, human_bytes(keys.keyring_bytes)),
            ],
            [
                "erased".to_owned(),
                format!("{} subjects, {} keyspaces", keys.erased_subjects, keys.erased_keyspaces),
            ],
            [
                "under legal hold".to_owned(),
                format!("{} subjects, {} keyspaces", keys.held_subjects, keys.held_keyspaces),
            ],
        ]);
        table(out, ["", ""], rows)?;
        section(out, "Keys")?;
        let mut rows =
            vec![["the database".to_owned(), "on disk".to_owned(), Age::text(&keys.database_keys)]];
        rows.extend(self.keyspaces.iter().map(|space| {
            let place = if space.on_disk { "on disk" } else { "in memory only" };
            [format!("keyspace {}", space.keyspace), place.to_owned(), Age::text(&space.keys)]
        }));
        table(out, ["keys of", "which is", "generations"], rows)
    }

    fn print_files(&self, out: &mut Answer) -> std::result::Result<(), Failure> {
        section(out, "Files")?;
        let rows = self.files.iter().map(|files| {
            let seal = match (files.state, files.algorithm) {
                ("sealed", Some(algorithm)) => algorithm.to_owned(),
                (state, _) => state.to_owned(),
            };
            let generation = files.key_generation.map_or_else(String::new, |number| number.to_string());
            let of = files.keyspace.clone().unwrap_or_else(|| "all".to_owned());
            [files.kind.to_owned(), of, seal, generation, files.files.to_string(), human_bytes(files.bytes)]
        });
        table(out, ["files", "of keyspace", "sealed with", "key generation", "how many", "length"], rows)?;
        for problem in &self.unreadable {
            out.line("")?;
            out.line(&format!("Not read: {problem}"))?;
        }
        if self.encrypted {
            out.line("")?;
            out.line("What keyspaces have in log and manifest is sealed with their own keys, of the generation there or a newer one.")?;
        }
        Ok(())
    }

    fn print_people(&self, out: &mut Answer) -> std::result::Result<(), Failure> {
        section(out, "Who did what, who may what, who is told")?;
        let audit = if self.audit { "kept" } else { "none is kept" };
        let may = if self.anybody_may_log_in {
            "whoever reaches the port"
        } else {
            "users with a password or a certificate"
        };
        let rows = [
            ["audit log", audit],
            ["users beside `default`", &self.users.to_string()],
            ["who may log in to a server", may],
            ["telemetry", "none: PugDB tells nobody anything"],
        ];
        table(out, ["", ""], rows.map(|row| row.map(str::to_owned)))
    }
}

fn section(out: &mut Answer, title: &str) -> std::result::Result<(), Failure> {
    out.line("")?;
    out.line(&format!("## {title}"))?;
    out.line("")
}

/// A table of Markdown that can be read as it is.
fn table<const N: usize>(
    out: &mut Answer,
    head: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> std::result::Result<(), Failure> {
    // Names are the user's: they may hold anything.
    let cell = |text: String| escaped(text.as_bytes()).replace('|', "\\|");
    let rows: Vec<[String; N]> =
        std::iter::once(head.map(str::to_owned)).chain(rows).map(|row| row.map(cell)).collect();
    let longest =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(3);
    // Behind the last column nothing has to be under something.
    let width = |column: usize| if column + 1 < N { longest(column) } else { 3 };
    let widths: Vec<usize> = (0..N).map(width).collect();
    for (number, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        out.line(&format!("| {} |", cells.collect::<Vec<_>>().join(" | ")))?;
        if number == 0 {
            let lines = widths.iter().map(|width| "-".repeat(*width));
            out.line(&format!("| {} |", lines.collect::<Vec<_>>().join(" | ")))?;
        }
    }
    Ok(())
}
