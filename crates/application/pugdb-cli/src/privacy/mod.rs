//! `privacy`: what is sealed with which key, what is plain text and why, and what that protects.
//!
//! | file | its part |
//! |---|---|
//! | `page` | the report: what is known, gathered, as text and as JSON |
//! | `places` | what is plain text whatever is sealed |
//! | `custody` | where keys and data lie, and who else can read that |

pub(crate) mod custody;
mod page;
mod places;

use clap::{Args, Subcommand};

use crate::arguments::Target;
use crate::outcome::{Exit, Failure};
use crate::output::{Format, answer_json};
use crate::target::Access;
use page::Page;

/// Say what is sealed with which key, what is plain text and why
#[derive(Args, Debug)]
#[command(after_help = "\
`pugdb doctor --privacy` tries it: it writes thousands of secrets and looks for them in every byte that is left.

Examples:
  pugdb privacy report
  pugdb privacy report --data /var/lib/pugdb --root-key file:/etc/pugdb/orders.key > privacy.md
  pugdb privacy report --json")]
pub(crate) struct PrivacyArguments {
    #[command(subcommand)]
    command: PrivacyCommand,
}

#[derive(Debug, Subcommand)]
enum PrivacyCommand {
    /// Print it as a page, in Markdown
    #[command(after_help = "\
It reads only, also beside a server: the header of each file, whose seal it checks, and what keys there are. No key and no name
of a subject or a user is shown; names of keyspaces are.

Example:
  pugdb privacy report --data /var/lib/pugdb > privacy.md")]
    Report(ReportArguments),
}

#[derive(Args, Debug)]
struct ReportArguments {
    #[command(flatten)]
    target: Target,
}

impl PrivacyArguments {
    pub(crate) fn target_mut(&mut self) -> &mut Target {
        let PrivacyCommand::Report(arguments) = &mut self.command;
        &mut arguments.target
    }
}

pub(crate) fn privacy(arguments: &PrivacyArguments, format: Format) -> Result<Exit, Failure> {
    let PrivacyCommand::Report(ReportArguments { target }) = &arguments.command;
    target.check_local_reading("privacy report")?;
    // Whether a server runs or not: nothing is changed by a report.
    let local = Target { read_only: true, ..target.clone() }.open_local(Access::Existing)?;
    let report = local.db.privacy()?;
    let page = Page::of(&report, &target.keys, &local.data, local.db.now())?;
    match format {
        Format::Json => answer_json(&page)?,
        Format::Text => page.print()?,
    }
    Ok(Exit::Done)
}
