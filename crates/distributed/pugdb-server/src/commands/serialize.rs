//! PLACEHOLDER

use bytes::Bytes;
use pugdb_wire::resp::Reply;

use crate::call::Call;
use crate::failure::Failure;

pub(super) fn dump(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Err(Failure::LATER)
}

pub(super) fn restore(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Err(Failure::LATER)
}
