//! `doctor --privacy`: ten thousand secrets are written in every way there is, and then looked for in every byte that is left.
//!
//! | file | step |
//! |---|---|
//! | `secrets` | 1: what is hidden |
//! | `library`, `service` | 2: how it is used: by a program, by clients of a server that is killed, by commands |
//! | `search` | 3: it is looked for |
//! | `verdict` | 4: what that shows |
//!
//! All of it is done twice, the second time without encryption: there the secrets have to be found, or the search is worth nothing.

mod library;
mod search;
mod secrets;
mod service;
mod verdict;

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressDrawTarget};
use pugdb::env::Env;

use super::directory::{place, scratch};
use crate::outcome::{Exit, Failure};
use crate::output::{Format, note};
use library::{Trial, write_text};
use search::{Search, spellings};
use secrets::Secrets;
use verdict::{Planted, Verdict};

/// The directory of the trial. It is removed when it is dropped.
struct Scratch {
    path: PathBuf,
    is_kept: bool,
}

impl Scratch {
    /// Beside the data, where room, rights and file system are the same; nothing of the data is touched.
    fn make(data: &Path) -> Result<Self, Failure> {
        let beside = match data.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => place(parent),
            _ => PathBuf::from("."),
        };
        let path = scratch(&beside);
        make_folder(&path)?;
        Ok(Self { path, is_kept: false })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.is_kept {
            // What stays is a hidden directory with nothing of the user's in it.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

fn make_folder(path: &Path) -> Result<(), Failure> {
    let made = DirBuilder::new().mode(0o700).recursive(true).create(path);
    made.map_err(|error| Failure::io(format!("make {}", path.display()), &error))
}

pub(super) fn try_privacy(data: &Path, keep: bool, format: Format) -> Result<Exit, Failure> {
    let env = Env::os();
    let mut scratch = Scratch::make(data)?;
    scratch.is_kept = keep;
    let progress = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(5));
    let secrets = Secrets::make(&*env.random);
    let search = Search::new(secrets.all());
    let look = |trial: &Trial| search.look_below(&*env.fs, &trial.root, &verdict::kind_of_file);

    let sealed = Trial { root: scratch.path.join("encrypted"), is_encrypted: true };
    work(&sealed, &secrets, &progress, "encrypted")?;
    progress.set_message("looking for the secrets");
    let found = look(&sealed)?;
    let control = Trial { root: scratch.path.join("control"), is_encrypted: false };
    work(&control, &secrets, &progress, "the control, not encrypted")?;
    progress.set_message("looking for the secrets in the control");
    let control = look(&control)?;
    let planted = plant(&scratch.path.join("planted"), &secrets, &search, &env)?;
    progress.finish_and_clear();

    if keep {
        note(&format!("pugdb: what was tried is in {}; nothing of it is yours", scratch.path.display()));
    }
    let verdict = Verdict { encrypted: found, control, planted };
    verdict.print(&secrets, format)?;
    Ok(verdict.exit(&secrets))
}

fn work(trial: &Trial, secrets: &Secrets, progress: &ProgressBar, name: &str) -> Result<(), Failure> {
    make_folder(&trial.output())?;
    make_folder(&trial.root.join("keys"))?;
    let tell = |what: &str| {
        progress.set_message(format!("{name}: {what}"));
        progress.tick();
    };
    tell("a program writes");
    trial.work_with_library(secrets)?;
    tell("a server writes, and is killed");
    trial.work_with_server(secrets)?;
    tell("commands look at it");
    trial.work_with_commands(secrets)
}

/// Each secret in each spelling, as it is: what the search has to find.
fn plant(root: &Path, secrets: &Secrets, search: &Search, env: &Env) -> Result<Planted, Failure> {
    make_folder(root)?;
    let all: Vec<Vec<Vec<u8>>> = secrets.all().iter().map(|secret| spellings(secret)).collect();
    let count = all.first().map_or(0, Vec::len);
    let mut found = Vec::new();
    for number in 0..count {
        let folder = root.join(number.to_string());
        make_folder(&folder)?;
        let lines: Vec<_> = all.iter().map(|one| String::from_utf8_lossy(&one[number])).collect();
        write_text(&folder.join("secrets"), &lines.join("\n"))?;
        let searched = search.look_below(&*env.fs, &folder, &|_| "planted")?;
        found.push(searched.values().map(|searched| searched.found.len()).sum());
    }
    Ok(Planted { found })
}
