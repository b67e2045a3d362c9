//! PLACEHOLDER

use super::table::{Command, commands};

pub(super) const SUBCOMMANDS: &[Command] = commands! {};
pub(super) const OBJECT: &[Command] = commands! {};
