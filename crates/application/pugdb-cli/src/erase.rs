//! `erase`: what was written about somebody, or a whole keyspace, by destroying its keys.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use pugdb::ErasureReport;
use pugdb::env::Env;
use pugdb::keys::{Certificate, ErasedObject, Vault};
use serde_json::json;

use crate::arguments::Target;
use crate::keeper::{HeldName, Hold, Keeper, keys};
use crate::outcome::{Exit, Failure};
use crate::output::{Answer, Format, answer_json, note};
use crate::target::Access;

/// Erase what was written about somebody, or a keyspace: its keys are destroyed
#[derive(Args, Debug)]
#[command(
    group = ArgGroup::new("what").required(true).multiple(true).args(["subject", "whole_keyspace", "verify", "check", "held"]),
    after_help = "\
Values are written for a subject by `put --subject NAME`, or by a program. Erasing the subject destroys one key: none of its values can
be read any more, here, in snapshots, in checkpoints and in backups, and nothing else changes. Names of keys stay. A certificate says
what was done and what that proves; it names nobody.

It works on the directory, or with --url through the server that has it open. There is no way back.

Examples:
  pugdb put order-1 'an engine' --subject ada@example.org
  pugdb erase --subject ada@example.org --certificate ada.txt
  pugdb erase --subject ada@example.org --url redis://127.0.0.1:7379
  pugdb erase --whole-keyspace orders-2019
  pugdb erase --hold --subject ada@example.org         a legal hold: it cannot be erased until --release
  pugdb erase --verify --old-keyring backup/KEYRING    try to read what should be gone
  pugdb erase --check ada.txt --subject ada@example.org"
)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
pub(crate) struct EraseArguments {
    #[command(flatten)]
    target: Target,
    /// Whom to erase, by the name that values were written with; may be given several times
    #[arg(long, value_name = "NAME", conflicts_with_all = ["verify", "held"])]
    subject: Vec<String>,
    /// A keyspace to erase, all of it
    #[arg(long, value_name = "NAME", conflicts_with_all = ["verify", "held", "subject"])]
    whole_keyspace: Option<String>,
    /// Write the certificate to this file, and not to stdout
    #[arg(long, value_name = "FILE", conflicts_with_all = ["verify", "check", "held", "hold", "release"])]
    certificate: Option<PathBuf>,
    /// Keep them from being erased, until they are released
    #[arg(long, conflicts_with_all = ["release", "verify", "check", "held"])]
    hold: bool,
    /// End a hold
    #[arg(long, conflicts_with_all = ["verify", "check", "held"])]
    release: bool,
    /// Print what is held
    #[arg(long, conflicts_with_all = ["verify", "check"])]
    held: bool,
    /// Try to read what was erased: opens each value that is sealed for a subject
    #[arg(long, conflicts_with = "check")]
    verify: bool,
    /// With --verify, a copy of the keyring from before an erasure, which must not open; may be given several times
    #[arg(long, value_name = "FILE", requires = "verify")]
    old_keyring: Vec<PathBuf>,
    /// Check a certificate: its signature, and that this database has signed it; with --subject or --whole-keyspace, whom it is about
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
}

impl EraseArguments {
    pub(crate) fn target_mut(&mut self) -> &mut Target {
        &mut self.target
    }
}

pub(crate) fn erase(arguments: &EraseArguments, format: Format) -> Result<Exit, Failure> {
    if let Some(path) = &arguments.check {
        arguments.target.check_local_reading("erase --check")?;
        let certificate = read_certificate(path)?;
        let vault = keys(&arguments.target.open_local(Access::Existing)?.db)?;
        return arguments.check_certificate(&certificate, &vault, format);
    }
    if !arguments.old_keyring.is_empty() {
        arguments.target.check_local_reading("erase --old-keyring")?;
    }
    let mut keeper = Keeper::of(&arguments.target)?;
    if arguments.held {
        return show_held(&keeper.held()?, format);
    }
    if arguments.verify {
        return arguments.verify(&keeper.verify_erasure()?, format);
    }
    if arguments.hold || arguments.release {
        return arguments.change_holds(&mut keeper, format);
    }
    let certificate = match &arguments.whole_keyspace {
        None => keeper.erase_subjects(&arguments.subject)?,
        Some(name) => keeper.erase_keyspace(name)?,
    };
    let kept = arguments.keep(&certificate);
    if kept.is_err() {
        note("pugdb: it is erased, and the certificate could not be written; here it is:");
        note(&certificate.to_string());
    }
    kept?;
    keeper.close()?;
    if format == Format::Json {
        answer_json(
            &json!({ "certificate": certificate.to_string(), "old_root_key_destroyed": certificate.is_root_key_destroyed }),
        )?;
    } else if arguments.certificate.is_none() {
        let mut stdout = Answer::new();
        stdout.write(certificate.to_string().as_bytes())?;
        stdout.finish()?;
    }
    if !certificate.is_root_key_destroyed {
        note(
            "pugdb: older copies of KEYRING still open with this root key: destroy them, or the key that is kept elsewhere",
        );
    }
    Ok(Exit::Done)
}

fn read_certificate(path: &Path) -> Result<Certificate, Failure> {
    let text = fs::read_to_string(path)
        .map_err(|error| Failure::io(format!("read the certificate {}", path.display()), &error))?;
    Certificate::parse(&text).map_err(|error| Failure::from(error).at(path.display()))
}

impl EraseArguments {
    fn keep(&self, certificate: &Certificate) -> Result<(), Failure> {
        let Some(path) = &self.certificate else { return Ok(()) };
        let written = fs::OpenOptions::new().write(true).create_new(true).open(path).and_then(|mut file| {
            std::io::Write::write_all(&mut file, certificate.to_string().as_bytes())?;
            file.sync_all()
        });
        written.map_err(|error| Failure::io(format!("write the certificate to {}", path.display()), &error))
    }

    fn check_certificate(
        &self,
        certificate: &Certificate,
        vault: &Vault,
        format: Format,
    ) -> Result<Exit, Failure> {
        if certificate.signer != vault.signer() {
            return Err(Failure::new(Exit::Partial, "another database has signed it"));
        }
        let is_about = |is_subject: bool, name: &String| {
            let of_kind = |object: &&ErasedObject| matches!(object, ErasedObject::Subject(_)) == is_subject;
            certificate.erased.iter().filter(of_kind).any(|object| vault.is_about(object, name.as_bytes()))
        };
        let subjects = self.subject.iter().all(|name| is_about(true, name));
        if !subjects || !self.whole_keyspace.iter().all(|name| is_about(false, name)) {
            return Err(Failure::new(Exit::NotFound, "it is not about that name"));
        }
        let (at, count) = (certificate.at.utc(), certificate.erased.len());
        if format == Format::Json {
            answer_json(
                &json!({ "at": at, "erased": count, "old_root_key_destroyed": certificate.is_root_key_destroyed }),
            )?;
            return Ok(Exit::Done);
        }
        let what = match &*certificate.erased {
            [ErasedObject::Keyspace(..)] => "one keyspace".to_owned(),
            [_] => "one subject".to_owned(),
            many => format!("{} subjects", many.len()),
        };
        let mut stdout = Answer::new();
        stdout.line(&format!("signed by this database, unchanged: {what}, erased {at}"))?;
        stdout.line(certificate.proves())?;
        stdout.finish()?;
        Ok(Exit::Done)
    }

    fn verify(&self, report: &ErasureReport, format: Format) -> Result<Exit, Failure> {
        let mut open = Vec::new();
        for path in &self.old_keyring {
            let root = self
                .target
                .keys
                .provider(&self.target.data())?
                .ok_or_else(|| Failure::usage("name the root key by --root-key"))?;
            match Vault::open_beside(&Env::os(), path, root) {
                Ok(_) => open.push(path.display().to_string()),
                Err(error) if error.kind() == pugdb::ErrorKind::Denied => {}
                Err(error) => return Err(Failure::from(error).at(path.display())),
            }
        }
        let is_well = report.opened == 0 && report.damaged == 0 && open.is_empty();
        if format == Format::Json {
            answer_json(&json!({
                "entries": report.entries,
                "sealed": report.sealed,
                "erased": report.erased,
                "opened": report.opened,
                "damaged": report.damaged,
                "erased_keyspaces": report.erased_keyspaces,
                "old_keyrings_that_open": open,
            }))?;
        } else {
            let mut stdout = Answer::new();
            stdout.line(&format!(
                "{} entries looked at, {} of them sealed for subjects that are there",
                report.entries, report.sealed
            ))?;
            stdout.line(&format!(
                "{} values are erased, {} of them could be opened",
                report.erased + report.opened,
                report.opened
            ))?;
            stdout.line(&format!("{} keyspaces are erased and have no key", report.erased_keyspaces))?;
            for path in &self.old_keyring {
                let path = path.display().to_string();
                let outcome = if open.contains(&path) {
                    "opens: it has keys that were destroyed since"
                } else {
                    "does not open"
                };
                stdout.line(&format!("{path} {outcome}"))?;
            }
            if report.damaged > 0 {
                stdout.line(&format!("{} values are damaged; run `pugdb verify`", report.damaged))?;
            }
            stdout.finish()?;
        }
        Ok(if is_well { Exit::Done } else { Exit::Partial })
    }

    fn change_holds(&self, keeper: &mut Keeper, format: Format) -> Result<Exit, Failure> {
        let hold = if self.hold { Hold::Begin } else { Hold::End };
        let mut changed =
            if self.subject.is_empty() { 0 } else { keeper.hold_subjects(&self.subject, hold)? };
        if let Some(name) = &self.whole_keyspace {
            changed += keeper.hold_keyspace(name, hold)?;
        }
        let what = if self.hold { "held" } else { "released" };
        if format == Format::Json {
            answer_json(&json!({ what: changed }))?;
        } else {
            let mut stdout = Answer::new();
            stdout.line(&format!("{changed} {what}"))?;
            stdout.finish()?;
        }
        Ok(Exit::Done)
    }
}

fn show_held(held: &[HeldName], format: Format) -> Result<Exit, Failure> {
    if format == Format::Json {
        let value =
            |held: &HeldName| json!({ "kind": held.kind, "name": held.name, "since_ms": held.since.0 });
        answer_json(&json!({ "held": held.iter().map(value).collect::<Vec<_>>() }))?;
        return Ok(Exit::Done);
    }
    let mut rows = vec![["held", "what stands for it", "since"].map(str::to_owned)];
    rows.extend(held.iter().map(|held| [held.kind.clone(), held.name.clone(), held.since.utc()]));
    let mut stdout = Answer::new();
    stdout.table(&rows)?;
    stdout.finish()?;
    Ok(Exit::Done)
}
