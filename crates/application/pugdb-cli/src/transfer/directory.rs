//! `import dir` and `export dir`: a directory tree, path and content.

use std::path::Path;

use pugdb::{EntryOptions, Keyspace};

use super::folder::{Folder, Refusal};
use super::loader::Loader;
use super::progress::Progress;
use super::safe_path;
use super::tree::{Content, Found, Identity, Tree, What, read_file};
use crate::arguments::Target;
use crate::audit::exporting;
use crate::interrupt::Interrupt;
use crate::outcome::{Exit, Failure};
use crate::output::Format;
use crate::target::{Access, Local};

pub(super) fn import(
    path: &Path,
    target: &Target,
    format: Format,
    interrupt: &Interrupt,
) -> Result<Exit, Failure> {
    target.check_local("import")?;
    // Before the database is opened: a wrong path must not make one.
    let metadata =
        std::fs::metadata(path).map_err(|error| Failure::io(format!("read {}", path.display()), &error))?;
    if !metadata.is_dir() {
        return Err(Failure::usage(format!("{} is no directory", path.display())));
    }
    let local = target.open_local(Access::Create)?;
    refuse_inside_database(path, &local)?;
    let database =
        Identity::of(&local.data).map_err(|error| Failure::io("look at the data directory", &error))?;
    let keyspace = local.for_writing()?;
    let mut loader = Loader::new(&local);
    let mut progress = Progress::start("imported", None, format);
    for found in Tree::new(path, Some(database)) {
        if interrupt.came() {
            break;
        }
        import_one(found, &keyspace, &mut loader, &mut progress)?;
    }
    loader.finish()?;
    let exit = progress.finish()?;
    interrupt
        .check()
        .map_err(|failure| failure.at("what was imported so far is kept; import again for the rest"))?;
    Ok(exit)
}

fn import_one(
    found: Found,
    keyspace: &Keyspace,
    loader: &mut Loader,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let Found { key, what } = found;
    let path = match what {
        What::File(path) => path,
        What::Other(word) => {
            progress.skip(&key, word);
            return Ok(());
        }
        What::Excluded => {
            progress.skip(&key, "the database itself");
            return Ok(());
        }
        What::Unreadable(error) => {
            progress.leave_out(if key.is_empty() { b"." } else { &key }, &error.to_string());
            return Ok(());
        }
    };
    let value = match read_file(&path, loader.value_bytes_max()) {
        Ok(Content::Bytes(bytes)) => bytes,
        Ok(Content::TooLarge) => {
            progress.leave_out(&key, &loader.too_large());
            return Ok(());
        }
        Ok(Content::NoFile) => {
            progress.skip(&key, "no regular file any longer");
            return Ok(());
        }
        Err(error) => {
            progress.leave_out(&key, &error.to_string());
            return Ok(());
        }
    };
    if let Some(reason) = loader.refuses(key.len(), value.len()) {
        progress.leave_out(&key, &reason);
        return Ok(());
    }
    loader.put(keyspace, &key, &value, EntryOptions::default())?;
    progress.add(key.len() + value.len());
    Ok(())
}

pub(super) fn export(
    path: &Path,
    force: bool,
    target: &Target,
    format: Format,
    interrupt: &Interrupt,
) -> Result<Exit, Failure> {
    target.check_local_reading("export")?;
    let local = target.open_local(Access::Existing)?;
    let keyspace = local.existing()?;
    refuse_inside_database(path, &local)?;
    exporting(&local, &keyspace, || export_to(path, force, &keyspace, format, interrupt))
}

fn export_to(
    path: &Path,
    force: bool,
    keyspace: &Keyspace,
    format: Format,
    interrupt: &Interrupt,
) -> Result<Exit, Failure> {
    let doing = format!("write to {}", path.display());
    let mut folder = Folder::open(path, force).map_err(|error| Failure::io(&doing, &error))?;
    let mut progress = Progress::start("exported", None, format);
    // From the last key to the first: `a/b` comes before `a`, so the folder is there when the file of its name comes,
    // and nothing has to be remembered.
    for entry in keyspace.scan(..).reverse() {
        interrupt.check().map_err(|failure| after(progress.entries(), failure))?;
        let (key, value) = entry.map_err(|error| after(progress.entries(), error.into()))?;
        let written = match safe_path::parts(&key) {
            Ok(parts) => folder.write(&parts, &value),
            Err(reason) => Err(Refusal::This(reason.to_owned())),
        };
        match written {
            Ok(()) => progress.add(key.len() + value.len()),
            Err(Refusal::This(reason)) => progress.leave_out(&key, &reason),
            Err(Refusal::All(error)) => return Err(after(progress.entries(), Failure::io(&doing, &error))),
        }
    }
    folder.sync().map_err(|error| Failure::io(&doing, &error))?;
    progress.finish()
}

fn after(entries: u64, failure: Failure) -> Failure {
    failure.at(format!("stopped after {entries} entries"))
}

/// The database's own directory is neither a source nor a place for anything else.
fn refuse_inside_database(path: &Path, local: &Local) -> Result<(), Failure> {
    let data =
        local.data.canonicalize().map_err(|error| Failure::io("look at the data directory", &error))?;
    // A path that is not there yet lies where its nearest existing folder does.
    let inside = path.ancestors().find_map(|path| {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        path.canonicalize().ok()
    });
    if inside.is_some_and(|path| path.starts_with(&data)) {
        return Err(Failure::usage(format!("{} lies in the database's own directory", path.display())));
    }
    Ok(())
}
