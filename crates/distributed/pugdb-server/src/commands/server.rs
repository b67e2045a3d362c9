//! PLACEHOLDER

use bytes::Bytes;
use pugdb_wire::resp::Reply;

use super::table::{Command, commands};
use crate::call::Call;
use crate::failure::Failure;

pub(super) const DEBUG: &[Command] = commands! {};

pub(super) fn bgsave(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Err(Failure::LATER)
}

pub(super) fn lastsave(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Err(Failure::LATER)
}

pub(super) fn role(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Err(Failure::LATER)
}

pub(super) fn save(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Err(Failure::LATER)
}

pub(super) fn shutdown(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Err(Failure::LATER)
}

pub(super) fn time(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Err(Failure::LATER)
}

pub(super) fn wait(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Err(Failure::LATER)
}
