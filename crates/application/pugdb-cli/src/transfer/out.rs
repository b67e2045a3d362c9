//! Exports to one file or to stdout: JSONL, CSV, TSV.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use pugdb::Keyspace;

use super::progress::Progress;
use super::rows::BUFFER_BYTES;
use crate::arguments::Target;
use crate::audit::exporting;
use crate::interrupt::Interrupt;
use crate::outcome::{Exit, Failure};
use crate::output::{Answer, Format};
use crate::target::Access;

/// A format to write.
pub(super) trait Export {
    /// Writes all entries.
    fn write(
        &self,
        keyspace: &Keyspace,
        output: &mut dyn Write,
        progress: &mut Progress,
        interrupt: &Interrupt,
        failure: &dyn Fn(io::Error) -> Failure,
    ) -> Result<(), Failure>;
}

pub(super) fn export(
    file: &Path,
    force: bool,
    target: &Target,
    export: &dyn Export,
    format: Format,
    interrupt: &Interrupt,
) -> Result<Exit, Failure> {
    target.check_local_reading("export")?;
    let local = target.open_local(Access::Existing)?;
    let keyspace = local.existing()?;
    exporting(&local, &keyspace, || export_to(file, force, &keyspace, export, format, interrupt))
}

fn export_to(
    file: &Path,
    force: bool,
    keyspace: &Keyspace,
    export: &dyn Export,
    format: Format,
    interrupt: &Interrupt,
) -> Result<Exit, Failure> {
    if file == Path::new("-") {
        let mut stdout = Answer::new();
        // Stdout belongs to the entries, so the summary stays on stderr.
        return write(keyspace, &mut stdout, export, Format::Text, interrupt, &|error| {
            Failure::stdout(&error)
        });
    }
    let failure = |error: io::Error| Failure::io(format!("write {}", file.display()), &error);
    let opened = create(file, force).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::usage(format!("{} is there already; --force replaces it", file.display()))
        }
        _ => failure(error),
    })?;
    let is_file = opened.metadata().map_err(failure)?.is_file();
    let mut output = BufWriter::with_capacity(BUFFER_BYTES, opened);
    let exported = write(keyspace, &mut output, export, format, interrupt, &failure).and_then(|exit| {
        if is_file {
            output.get_ref().sync_all().map_err(failure)?;
        }
        Ok(exit)
    });
    if exported.is_err() && is_file {
        // Half an export must not look like one. The first error is the one to tell.
        let _ = std::fs::remove_file(file);
    }
    exported
}

fn create(file: &Path, force: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true);
    if force { options.create(true).truncate(true) } else { options.create_new(true) }.open(file)
}

fn write(
    keyspace: &Keyspace,
    output: &mut dyn Write,
    export: &dyn Export,
    format: Format,
    interrupt: &Interrupt,
    failure: &dyn Fn(io::Error) -> Failure,
) -> Result<Exit, Failure> {
    let mut progress = Progress::start("exported", None, format);
    export.write(keyspace, output, &mut progress, interrupt, failure)?;
    // Before the summary: it must not praise what a full disk still refuses.
    output.flush().map_err(failure)?;
    progress.finish()
}
