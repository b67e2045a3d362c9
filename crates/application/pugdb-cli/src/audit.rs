//! `audit`: the audit log, verified, shown, proved. It reads files only, so it works beside a server and on copies.

use std::collections::VecDeque;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use pugdb::audit::{
    Action, Actor, AuditLog, AuditOptions, AuditReport, Checkpoint, Event, InclusionProof, ObjectKind,
    Outcome, Record,
};
use pugdb::{Builder, Database, Keyspace};
use serde_json::{Map, Value, json};

use crate::arguments::Switch;
use crate::outcome::{Exit, Failure};
use crate::output::{Answer, Format, answer_json};
use crate::root_key::KeyArguments;
use crate::target::{DATA_DEFAULT, Local};
use crate::text::{count, escaped, hex, human_bytes};

/// Where the audit log lies in a database's directory.
const AUDIT: &str = "audit";

/// Show and verify the audit log: who did what, and whether somebody has changed that since
#[derive(Args, Debug)]
#[command(after_help = "\
A database that `init` or `serve` has made with encryption has an audit log: opens and closes, changes of keys and keyspaces, erasures,
exports. Names of what was acted on stand there as keyed digests, values never. The commands read files only: a server may run on the
directory, and a copy of it will do, with --root-key and --keyring.

  audit verify         read all of it; the first record that is not as it was, and code 3
  audit show           print records, one a line, the oldest first
  audit prove NUMBER   print a proof that a record is in the log, and the checkpoint that it is for
  audit check FILE     check such a proof; it needs no database and no key

A chain alone does not show that its end was cut off, or that somebody with the keyring has written all of it anew: give `serve` a
--audit-copy in a second place, and `verify` the same file as --against.

Examples:
  pugdb audit verify --against /mnt/other/orders.checkpoints
  pugdb audit show --about ada@example.org --action erase.subjects
  pugdb audit show --since 2026-11-01 --json | jq .action
  pugdb audit prove 42 > proof.txt
  pugdb audit check proof.txt --signer 3b6a27bc...")]
pub(crate) struct AuditArguments {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Read all of it and check every link, seal and signature; code 3 if something was changed
    Verify(VerifyAuditArguments),
    /// Print records, one a line, the oldest first
    Show(ShowArguments),
    /// Print a proof that a record is in the log, and the checkpoint that it is for
    Prove(ProveArguments),
    /// Check a proof that `prove` has printed; code 3 if it does not hold
    Check(CheckArguments),
}

#[derive(Args, Debug)]
struct AuditPlace {
    /// The directory of the database
    #[arg(long, value_name = "DIR", default_value = DATA_DEFAULT)]
    data: PathBuf,
    #[command(flatten)]
    keys: KeyArguments,
}

#[derive(Args, Debug)]
struct VerifyAuditArguments {
    #[command(flatten)]
    place: AuditPlace,
    /// The second place: the file that --audit-copy has made
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct ShowArguments {
    #[command(flatten)]
    place: AuditPlace,
    /// Only from this time on (UTC), such as 2026-11-27 or 2026-11-27T13:30
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<String>,
    /// Only what somebody of this name did
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// Only this, such as open or erase.subjects; may be given several times
    #[arg(long, value_name = "ACTION", value_parser = parse_action)]
    action: Vec<Action>,
    /// Only what is about this name: a keyspace, a key, a subject, a user, a path
    #[arg(long, value_name = "NAME")]
    about: Option<String>,
    /// At most so many, the newest
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
}

#[derive(Args, Debug)]
struct ProveArguments {
    /// The number of the record, as `show` prints it
    number: u64,
    #[command(flatten)]
    place: AuditPlace,
}

#[derive(Args, Debug)]
struct CheckArguments {
    /// What `prove` has printed
    file: PathBuf,
    /// The public key that has to have signed, as `key status` prints it
    #[arg(long, value_name = "HEX")]
    signer: Option<String>,
    /// A checkpoint from elsewhere, such as the second place, instead of the one beside the proof
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
}

fn parse_action(text: &str) -> Result<Action, String> {
    Action::from_name(text).ok_or_else(|| {
        let names: Vec<_> = Action::ALL.iter().map(|action| action.name()).collect();
        format!("write one of {}", names.join(", "))
    })
}

/// A beginning of what `show` prints as a time: as text they are in the order of time.
fn parse_time(text: &str) -> Result<String, String> {
    const SHAPE: &str = "0000-00-00T00:00:00.000Z";
    let fits =
        |(letter, shape): (char, char)| if shape == '0' { letter.is_ascii_digit() } else { letter == shape };
    let is_whole = [4, 7, 10, 13, 16, 19, 23, 24].contains(&text.len());
    if is_whole && text.chars().zip(SHAPE.chars()).all(fits) {
        return Ok(text.to_owned());
    }
    // Without parts of a second it may end with a Z all the same.
    match text.strip_suffix('Z').filter(|text| text.len() == 16 || text.len() == 19) {
        Some(text) => parse_time(text),
        None => Err("write a time in UTC, such as 2026-11-27 or 2026-11-27T13:30:00Z".to_owned()),
    }
}

pub(crate) fn audit(arguments: &AuditArguments, format: Format) -> Result<Exit, Failure> {
    match &arguments.command {
        AuditCommand::Verify(arguments) => verify(arguments, format),
        AuditCommand::Show(arguments) => arguments.show(format),
        AuditCommand::Prove(arguments) => prove(arguments, format),
        AuditCommand::Check(arguments) => check(arguments, format),
    }
}

impl AuditPlace {
    fn log(&self) -> Result<AuditLog, Failure> {
        let builder = self.keys.apply(Database::builder(), &self.data)?;
        builder.audit_log(&self.data).map_err(|error| Failure::from(error).at(self.data.display()))
    }
}

/// A text. What a crash has made of some of it is no reason not to look at the rest.
fn read(path: &Path) -> Result<String, Failure> {
    let file = fs::File::options().read(true).open(path);
    let mut bytes = Vec::new();
    let read = file.and_then(|mut file| file.read_to_end(&mut bytes));
    read.map_err(|error| Failure::io(format!("read {}", path.display()), &error))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn verify(arguments: &VerifyAuditArguments, format: Format) -> Result<Exit, Failure> {
    let known = arguments.against.as_deref().map(read).transpose()?;
    let report = arguments.place.log()?.verify(known.as_deref())?;
    let exit = if report.problem.is_none() { Exit::Done } else { Exit::Partial };
    if format == Format::Json {
        answer_json(&report_json(&report))?;
        return Ok(exit);
    }
    let mut stdout = Answer::new();
    let segments = count(report.segments, "segment", "segments");
    let bytes = human_bytes(report.bytes);
    stdout.line(&format!("records {} to {} read, in {segments}, {bytes}", report.first, report.last))?;
    let signed = if report.is_signed { "signed" } else { "not signed, for the database is not encrypted" };
    stdout.line(&format!(
        "{} in the log through record {}, {signed}",
        count(report.checkpoints, "checkpoint", "checkpoints"),
        report.covered
    ))?;
    if let Some(against) = &report.against {
        let known = count(against.checkpoints, "checkpoint", "checkpoints");
        stdout.line(&format!(
            "the second place has {known}; the log is the same through record {}",
            against.through
        ))?;
        if against.removed > 0 {
            stdout.line(&format!("{} of them are about records that were removed since", against.removed))?;
        }
    }
    if report.missing > 0 {
        stdout.line(&format!(
            "{} could not be written at the time, as the log says",
            count(report.missing, "record", "records")
        ))?;
    }
    if report.torn_bytes > 0 {
        stdout.line(&format!(
            "the last {} are no whole record: a crash leaves that, and so does who cuts something off",
            count(report.torn_bytes, "byte", "bytes")
        ))?;
    }
    if let Some(problem) = &report.problem {
        stdout.line(&format!("{problem}; behind it nothing was read"))?;
    } else {
        stdout.line("every record is as it was written")?;
        stdout.line(report.shows())?;
    }
    stdout.finish()?;
    Ok(exit)
}

fn report_json(report: &AuditReport) -> Value {
    json!({
        "first": report.first,
        "last": report.last,
        "records": report.records,
        "segments": report.segments,
        "bytes": report.bytes,
        "root": hex(&report.root),
        "link": hex(&report.link),
        "checkpoints": report.checkpoints,
        "covered": report.covered,
        "signed": report.is_signed,
        "missing": report.missing,
        "torn_bytes": report.torn_bytes,
        "closed": report.is_closed,
        "against": report.against.as_ref().map(|against| json!({
            "checkpoints": against.checkpoints,
            "torn": against.torn,
            "removed": against.removed,
            "through": against.through,
        })),
        "problem": report.problem.as_ref().map(|problem| json!({
            "record": problem.record,
            "segment": problem.segment,
            "what": problem.what,
        })),
        "shows": report.shows(),
    })
}

impl ShowArguments {
    fn show(&self, format: Format) -> Result<Exit, Failure> {
        let log = self.place.log()?;
        let (mut stdout, mut failed) = (Answer::new(), None);
        let mut newest = VecDeque::new();
        let read = log.records(&mut |record| {
            if !self.is_wanted(&log, record) {
                return Ok(true);
            }
            match self.limit {
                None => failed = print(&mut stdout, record, format).err(),
                Some(0) => {}
                Some(limit) => {
                    if newest.len() == limit {
                        newest.pop_front();
                    }
                    newest.push_back(record.clone());
                }
            }
            Ok(failed.is_none())
        });
        if let Some(failure) = failed {
            return Err(failure);
        }
        newest.iter().try_for_each(|record| print(&mut stdout, record, format))?;
        stdout.finish()?;
        read?;
        Ok(Exit::Done)
    }

    fn is_wanted(&self, log: &AuditLog, record: &Record) -> bool {
        self.since.as_ref().is_none_or(|since| record.at.utc() >= *since)
            && self.actor.as_ref().is_none_or(|actor| record.actor.name() == actor)
            && (self.action.is_empty() || self.action.contains(&record.event.action))
            && self.about.as_ref().is_none_or(|name| log.is_about(record, name.as_bytes()))
    }
}

fn print(stdout: &mut Answer, record: &Record, format: Format) -> Result<(), Failure> {
    let Record { number, at, actor, event } = record;
    let reason = event.reason.map(|reason| reason.to_string());
    if format == Format::Json {
        let objects: Vec<_> = event
            .objects
            .iter()
            .map(|object| json!({ "kind": object.kind.name(), "digest": hex(&object.digest) }))
            .collect();
        let counts: Map<_, _> =
            event.counts.iter().map(|(count, number)| (count.to_string(), Value::from(*number))).collect();
        return stdout.json(&json!({
            "number": number,
            "at": at.utc(),
            "at_ms": at.0,
            "actor": actor.name(),
            "source": actor.source(),
            "action": event.action.name(),
            "outcome": event.outcome.name(),
            "reason": reason,
            "objects": objects,
            "counts": counts,
        }));
    }
    let plain = |text: &str| escaped(text.as_bytes());
    let (name, source) = (plain(actor.name()), plain(actor.source()));
    let mut line = format!("{number}\t{}\t{name}\t{source}\t{}\t{}", at.utc(), event.action, event.outcome);
    let reason = reason.into_iter();
    let objects =
        event.objects.iter().map(|object| format!("{}:{}", object.kind, &hex(&object.digest)[..16]));
    let counts = event.counts.iter().map(|(count, number)| format!("{count}={number}"));
    let more: Vec<_> = reason.chain(objects).chain(counts).collect();
    if !more.is_empty() {
        line = format!("{line}\t{}", more.join(" "));
    }
    stdout.line(&line)
}

fn prove(arguments: &ProveArguments, format: Format) -> Result<Exit, Failure> {
    let (proof, checkpoint) = arguments.place.log()?.prove(arguments.number)?;
    if format == Format::Json {
        answer_json(&json!({ "proof": proof.to_string(), "checkpoint": checkpoint.to_string() }))?;
        return Ok(Exit::Done);
    }
    let mut stdout = Answer::new();
    stdout.write(format!("{proof}{checkpoint}").as_bytes())?;
    stdout.finish()?;
    Ok(Exit::Done)
}

fn check(arguments: &CheckArguments, format: Format) -> Result<Exit, Failure> {
    let at = |path: &Path| {
        let path = path.display().to_string();
        move |error: pugdb::Error| Failure::from(error).at(path)
    };
    let text = read(&arguments.file)?;
    let mut parts = Checkpoint::split(&text);
    let proof = InclusionProof::parse(parts.next().unwrap_or_default()).map_err(at(&arguments.file))?;
    let checkpoint = match (&arguments.checkpoint, parts.next()) {
        (Some(path), _) => known_checkpoint(path, proof.size)?,
        (None, Some(text)) => Checkpoint::parse(text).map_err(at(&arguments.file))?,
        (None, None) => {
            return Err(Failure::usage("there is no checkpoint beside the proof; name one by --checkpoint"));
        }
    };
    proof.check(&checkpoint).map_err(at(&arguments.file))?;
    let signer = checkpoint.signer.map(|key| hex(&key));
    if arguments.signer.is_some() && arguments.signer != signer {
        return Err(Failure::new(Exit::Partial, "the checkpoint is signed by another key, or by none"));
    }
    if format == Format::Json {
        answer_json(
            &json!({ "record": proof.record.number, "size": proof.size, "signer": signer, "at": checkpoint.at.utc() }),
        )?;
        return Ok(Exit::Done);
    }
    let mut stdout = Answer::new();
    print(&mut stdout, &proof.record, format)?;
    stdout.line(&format!(
        "is in the log of {} that was stated {}",
        count(proof.size, "record", "records"),
        checkpoint.at.utc()
    ))?;
    stdout.line(&match (&signer, &arguments.signer) {
        (Some(_), Some(_)) => "signed by that key".to_owned(),
        (Some(key), None) => format!("signed by {key}: compare it with what `pugdb key status` prints"),
        (None, _) => "not signed: it is as sure as the place where the checkpoint was kept, and no checkpoint of an encrypted database".to_owned(),
    })?;
    stdout.finish()?;
    Ok(Exit::Done)
}

/// The checkpoint of a second place that is about a log of so many records.
fn known_checkpoint(path: &Path, size: u64) -> Result<Checkpoint, Failure> {
    let known = read(path)?;
    let checkpoints = Checkpoint::split(&known).filter_map(|text| Checkpoint::parse(text).ok());
    checkpoints.filter(|checkpoint| checkpoint.size == size).last().ok_or_else(|| {
        let path = path.display();
        Failure::usage(format!("{path} has no checkpoint of {size} records, for which the proof is"))
    })
}

/// Who runs this command.
fn actor() -> Actor {
    let user = rustix::process::getuid().as_raw();
    Actor::new(&format!("uid {user}"), &format!("pugdb, process {}", std::process::id()))
}

/// Settings of the audit log for a command.
pub(crate) fn options() -> AuditOptions {
    AuditOptions { actor: actor(), ..AuditOptions::default() }
}

/// The same builder, with an audit log if the database in `data` has one.
pub(crate) fn as_it_was(builder: Builder, data: &Path) -> Builder {
    if data.join(AUDIT).is_dir() { builder.audit(options()) } else { builder }
}

/// Whether a server keeps an audit log: as it is told, or where the database has one, or is encrypted.
pub(crate) fn is_kept(asked: Option<Switch>, data: &Path, is_encrypted: bool) -> bool {
    asked.map_or_else(|| is_encrypted || data.join(AUDIT).is_dir(), |asked| asked == Switch::On)
}

/// Writes data out of a database between two records: that it is about to be done, and what came of it.
pub(crate) fn exporting(
    local: &Local,
    keyspace: &Keyspace,
    write: impl FnOnce() -> Result<Exit, Failure>,
) -> Result<Exit, Failure> {
    let Some(audit) = local.db.audit() else { return write() };
    let event =
        Event::begun(Action::Export).on(audit.object(ObjectKind::Keyspace, keyspace.name().as_bytes()));
    audit.record(&actor(), event.clone())?;
    let written = write();
    let outcome = if written == Ok(Exit::Done) { Outcome::Done } else { Outcome::Failed };
    let told = audit.record(&actor(), Event { outcome, ..event });
    let exit = written?;
    told?;
    Ok(exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_beginning_of_what_is_printed() {
        for time in ["2026", "2026-11", "2026-11-27", "2026-11-27T13:30", "2026-11-27T13:30:05.123Z"] {
            assert_eq!(parse_time(time).as_deref(), Ok(time));
        }
        assert_eq!(parse_time("2026-11-27T13:30:05Z").as_deref(), Ok("2026-11-27T13:30:05"));
        for time in ["", "yesterday", "2026-1", "2026-11-27 13:30", "2026-11-27T13:30:05.1", "27.11.2026"] {
            assert!(parse_time(time).is_err(), "{time}");
        }
    }

    #[test]
    fn an_audit_log_is_kept_where_it_is_asked_for_or_was_or_keys_are() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_kept(None, dir.path(), false) && is_kept(None, dir.path(), true));
        assert!(
            is_kept(Some(Switch::On), dir.path(), false) && !is_kept(Some(Switch::Off), dir.path(), true)
        );
        fs::create_dir(dir.path().join(AUDIT)).unwrap();
        assert!(is_kept(None, dir.path(), false));
    }
}
