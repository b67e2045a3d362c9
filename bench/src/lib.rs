//! The same YCSB over PugDB and over other stores: what the programs `embedded`, `sockets` and `tables` share.

pub mod client;
pub mod control;
pub mod echo;
pub mod machine;
pub mod protocol;
pub mod record;
pub mod servers;
pub mod stores;
pub mod tables;
