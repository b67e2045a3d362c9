//! The command `pugdb`.
fn main() {}
