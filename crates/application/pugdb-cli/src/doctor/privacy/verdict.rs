//! What a search has shown: pure, but for the printing. Step 4.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use super::search::Searched;
use super::secrets::{Kind, Secrets};
use crate::outcome::{Exit, Failure};
use crate::output::{Answer, Format, answer_json};
use crate::text::human_bytes;

/// What is printed and answered: nothing of the user's, encrypted or not.
const SAID: &str = "output, replies, metrics";
/// Of a control that finds less of what is on the disk the search is not to be trusted: a few may have been merged away.
const FOUND_MIN_PERCENT: usize = 90;

/// How many secrets the search has found of each spelling, where all of them are.
pub(super) struct Planted {
    pub(super) found: Vec<usize>,
}

pub(super) struct Verdict {
    pub(super) encrypted: BTreeMap<&'static str, Searched>,
    pub(super) control: BTreeMap<&'static str, Searched>,
    pub(super) planted: Planted,
}

/// Which row of the report a file of a trial belongs to.
pub(super) fn kind_of_file(path: &Path) -> &'static str {
    let mut parts = path.iter().map(|part| part.to_string_lossy());
    let (top, second) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    match (&*top, &*second, ending) {
        ("output", ..) => SAID,
        ("keys", ..) => "key file",
        ("audit-copy", ..) => "second place of the audit log",
        ("checkpoint", ..) => "checkpoint",
        (_, "audit", _) => "audit log",
        (_, _, "log") => "log",
        (_, _, "table") => "tables",
        (_, _, "values") => "value files",
        (_, "KEYRING", _) => "KEYRING",
        (_, name, _) if name.starts_with("manifest-") => "manifest",
        _ => "CURRENT, LOCK, RESERVE",
    }
}

fn all_found(files: &BTreeMap<&'static str, Searched>) -> BTreeSet<usize> {
    files.values().flat_map(|searched| searched.found.iter().copied()).collect()
}

fn of_kind(found: &BTreeSet<usize>, kind: Kind) -> usize {
    found.iter().filter(|number| Secrets::kind(**number) == Some(kind)).count()
}

impl Verdict {
    /// What the encrypted database has given away, and what any database has said.
    fn leaks(&self) -> usize {
        let mut found = all_found(&self.encrypted);
        found.extend(self.control.get(SAID).into_iter().flat_map(|searched| searched.found.iter().copied()));
        let control = all_found(&self.control);
        found.extend(
            control.into_iter().filter(|number| Secrets::kind(*number).is_some_and(|kind| !kind.is_kept())),
        );
        found.len()
    }

    /// What the control has not found enough of.
    fn blind(&self, secrets: &Secrets) -> Vec<Kind> {
        let found = all_found(&self.control);
        let is_blind = |kind: &Kind| {
            kind.is_kept() && of_kind(&found, *kind) * 100 < secrets.of(*kind).len() * FOUND_MIN_PERCENT
        };
        Kind::ALL.into_iter().filter(is_blind).collect()
    }

    fn finds_planted(&self, secrets: &Secrets) -> bool {
        !self.planted.found.is_empty() && self.planted.found.iter().all(|found| *found == secrets.all().len())
    }

    fn search_works(&self, secrets: &Secrets) -> bool {
        self.finds_planted(secrets) && self.blind(secrets).is_empty()
    }

    pub(super) fn exit(&self, secrets: &Secrets) -> Exit {
        if self.leaks() == 0 && self.search_works(secrets) { Exit::Done } else { Exit::Unavailable }
    }

    pub(super) fn print(&self, secrets: &Secrets, format: Format) -> Result<(), Failure> {
        if format == Format::Json {
            return answer_json(&self.json(secrets));
        }
        let mut out = Answer::new();
        let bytes: u64 = self.encrypted.values().map(|searched| searched.bytes).sum();
        let files: u64 = self.encrypted.values().map(|searched| searched.files).sum();
        out.line(&format!(
            "{} secrets were written, {} in {files} files searched for them",
            secrets.all().len(),
            human_bytes(bytes)
        ))?;
        out.line("")?;
        out.table(&self.file_rows())?;
        out.line("")?;
        out.table(&self.kind_rows(secrets))?;
        out.line("")?;
        self.conclude(secrets).iter().try_for_each(|line| out.line(line))?;
        out.finish()
    }

    fn file_rows(&self) -> Vec<[String; 5]> {
        let head = ["in", "files", "searched", "found", "found if not encrypted"].map(str::to_owned);
        let names: BTreeSet<_> = self.encrypted.keys().chain(self.control.keys()).collect();
        let rows = names.into_iter().map(|name| {
            let none = Searched::default();
            let sealed = self.encrypted.get(name).unwrap_or(&none);
            let control = self.control.get(name).unwrap_or(&none);
            [
                (*name).to_owned(),
                sealed.files.to_string(),
                human_bytes(sealed.bytes),
                sealed.found.len().to_string(),
                control.found.len().to_string(),
            ]
        });
        std::iter::once(head).chain(rows).collect()
    }

    fn kind_rows(&self, secrets: &Secrets) -> Vec<[String; 4]> {
        let head = ["secrets", "written", "found", "found if not encrypted"].map(str::to_owned);
        let (sealed, control) = (all_found(&self.encrypted), all_found(&self.control));
        let rows = Kind::ALL.into_iter().map(|kind| {
            let nowhere = if kind.is_kept() { "" } else { ", nowhere to be" };
            [
                kind.name().to_owned(),
                secrets.of(kind).len().to_string(),
                of_kind(&sealed, kind).to_string(),
                format!("{}{nowhere}", of_kind(&control, kind)),
            ]
        });
        std::iter::once(head).chain(rows).collect()
    }

    fn conclude(&self, secrets: &Secrets) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.finds_planted(secrets) {
            lines.push(
                "fail  the search does not find what was planted for it: it shows nothing; please report it"
                    .to_owned(),
            );
        }
        let blind: Vec<_> = self.blind(secrets).iter().map(|kind| kind.name()).collect();
        if !blind.is_empty() {
            lines.push(format!(
                "fail  the control has not found the {} that lie there in plain text: the search shows nothing; please report it",
                blind.join(", the ")
            ));
        }
        match self.leaks() {
            0 if lines.is_empty() => lines.push(
                "ok    an encrypted database leaves none of them, and without encryption the same search finds them".to_owned(),
            ),
            0 => {}
            leaks => lines.push(format!(
                "fail  {leaks} were found where they must not be; please report it, with the tables above"
            )),
        }
        lines
    }

    fn json(&self, secrets: &Secrets) -> Value {
        let files = |files: &BTreeMap<&'static str, Searched>| -> Vec<Value> {
            let one = |(name, searched): (&&str, &Searched)| json!({ "in": name, "files": searched.files, "bytes": searched.bytes, "found": searched.found.len() });
            files.iter().map(one).collect()
        };
        let (sealed, control) = (all_found(&self.encrypted), all_found(&self.control));
        let kinds: Vec<_> = Kind::ALL
            .into_iter()
            .map(|kind| {
                json!({
                    "secrets": kind, "written": secrets.of(kind).len(), "found": of_kind(&sealed, kind),
                    "found_in_control": of_kind(&control, kind), "kept_in_plain_text_without_encryption": kind.is_kept(),
                })
            })
            .collect();
        json!({
            "check": "privacy",
            "verdict": if self.exit(secrets) == Exit::Done { "ok" } else { "fail" },
            "written": secrets.all().len(),
            "leaks": self.leaks(),
            "search_works": self.search_works(secrets),
            "planted_found": self.planted.found,
            "encrypted": files(&self.encrypted),
            "control": files(&self.control),
            "secrets": kinds,
        })
    }
}

#[cfg(test)]
mod tests {
    use pugdb::env::os::OsRandom;

    use super::*;

    type Spoil<'a> = &'a dyn Fn(&mut Verdict);

    fn searched(numbers: impl IntoIterator<Item = usize>) -> Searched {
        Searched { files: 1, bytes: 1, found: numbers.into_iter().collect() }
    }

    /// As a good run ends.
    fn good(secrets: &Secrets) -> Verdict {
        let kept = (0..secrets.all().len()).filter(|number| Secrets::kind(*number).unwrap().is_kept());
        Verdict {
            encrypted: BTreeMap::from([("log", searched([])), (SAID, searched([]))]),
            control: BTreeMap::from([("log", searched(kept)), (SAID, searched([]))]),
            planted: Planted { found: vec![secrets.all().len(); 7] },
        }
    }

    #[test]
    fn a_leak_and_a_search_that_is_blind_fail_and_each_says_so() {
        let secrets = Secrets::make(&OsRandom);
        let judged = |spoil: &dyn Fn(&mut Verdict)| {
            let mut verdict = good(&secrets);
            spoil(&mut verdict);
            (verdict.exit(&secrets), verdict.conclude(&secrets).join("\n"))
        };
        let (exit, text) = judged(&|_| ());
        assert!(exit == Exit::Done && text.starts_with("ok "), "{text}");
        let password = (0..10_000).find(|number| Secrets::kind(*number) == Some(Kind::Password)).unwrap();
        let spoils: [(Spoil<'_>, &str); 5] = [
            (&|verdict| drop(verdict.encrypted.insert("log", searched([7]))), "1 were found"),
            (&|verdict| drop(verdict.control.insert(SAID, searched([7, 8]))), "2 were found"),
            (&|verdict| drop(verdict.control.insert("tables", searched([password]))), "1 were found"),
            (&|verdict| verdict.planted.found[3] -= 1, "does not find what was planted"),
            (
                &|verdict| drop(verdict.control.insert("log", searched(0..4_000))),
                "has not found the values, the names of keyspaces",
            ),
        ];
        for (spoil, words) in spoils {
            let (exit, text) = judged(spoil);
            assert!(exit == Exit::Unavailable && text.contains(words) && text.starts_with("fail"), "{text}");
        }
    }

    #[test]
    fn each_file_has_its_row() {
        let of = |path: &str| kind_of_file(Path::new(path));
        assert_eq!((of("data/log/0-0000000003.log"), of("data/tables/00.table")), ("log", "tables"));
        assert_eq!((of("data/manifest-0000000001"), of("data/audit/1.audit")), ("manifest", "audit log"));
        assert_eq!((of("output/replies"), of("data/LOCK")), (SAID, "CURRENT, LOCK, RESERVE"));
        assert_eq!((of("checkpoint/log/1.log"), of("keys/root.key")), ("checkpoint", "key file"));
    }
}
