//! The hostile world: a simulated disk, clock and scheduler, a model, and the suite every engine passes.

mod cipher;
pub mod conformance;
mod disk;
mod faults;
mod model;
mod operator;
mod replay;
mod scheduler;
mod store;
#[cfg(test)]
mod tests;
mod world;

pub use cipher::TestCipher;
pub use disk::{ContentFate, NameFate};
pub use faults::CallKind;
pub use model::{Model, ModelEntry, ModelOp, ModelState, diff};
pub use operator::Concatenate;
pub use replay::check;
pub use store::{Fault, FlakyStore, SLOW_READ, SlowStore};
pub use world::World;
