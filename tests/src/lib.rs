//! Tests of the whole system: crash, fault, model, conformance and architecture suites.

pub mod chance;
pub mod crash;
pub mod crash_scripts;
pub mod hostile;
pub mod killed;
pub mod metamorphic;
pub mod model_setup;
pub mod model_walk;
pub mod serializability;
