//! PLACEHOLDER

use super::table::{Command, commands};

pub(super) const SUBCOMMANDS: &[Command] = commands! {};
