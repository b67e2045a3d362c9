//! The audit log as values, without a disk: what was done, by whom, to what, and how it is shown that nobody has changed it since.
//!
//! | file | what it is |
//! |---|---|
//! | `record.rs` | [`Record`]: one line of the log, and its bytes |
//! | `chain.rs` | each record's hash holds the one before: nothing is changed, left out or moved in the middle |
//! | `merkle.rs` | a tree over these hashes: one root for all of them, and short proofs |
//! | `checkpoint.rs` | [`Checkpoint`]: size and root, signed, to be kept in a second place |
//! | `proof.rs` | [`InclusionProof`], [`ConsistencyProof`]: what somebody needs who has nothing but a checkpoint |
//! | `notary.rs` | [`Notary`]: who signs, and what stands for names |
//!
//! Why it is so: `docs/adr/0052-audit-log.md`. The bytes are drawn in `docs/format/audit.md`.

mod chain;
mod checkpoint;
mod merkle;
mod notary;
mod proof;
mod record;

pub use chain::{CHAIN_BEGIN, ChainHash, chain};
pub use checkpoint::Checkpoint;
pub use merkle::{Frontier, Gather, Span, TreeHash, consistency_spans, inclusion_spans, leaf};
pub(crate) use notary::object;
pub use notary::{Notary, Witness};
pub use proof::{ConsistencyProof, InclusionProof};
pub use record::{
    ACTOR_BYTES_MAX, Action, Actor, Count, Event, OBJECTS_MAX, Object, ObjectKind, Outcome, RECORD_BYTES_MAX,
    Reason, Record, UnknownNumber,
};
