//! PLACEHOLDER

use bytes::Bytes;
use pugdb_wire::resp::Reply;

use crate::call::Call;
use crate::failure::Failure;

pub(super) fn bitcount(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Err(Failure::LATER)
}

pub(super) fn bitfield(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Err(Failure::LATER)
}

pub(super) fn bitfield_ro(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Err(Failure::LATER)
}

pub(super) fn bitop(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Err(Failure::LATER)
}

pub(super) fn bitpos(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Err(Failure::LATER)
}

pub(super) fn getbit(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Err(Failure::LATER)
}

pub(super) fn setbit(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Err(Failure::LATER)
}
