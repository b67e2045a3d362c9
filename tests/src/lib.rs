//! Tests of the whole system: crash, fault, model, conformance and architecture suites.
