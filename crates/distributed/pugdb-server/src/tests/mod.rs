//! Tests of the server over real sockets: scripts of requests and replies, and what happens at the limits.

mod admin;
mod audited;
mod concurrency;
mod connections;
mod durability;
mod erased;
mod harness;
mod health;
mod history;
mod hostile;
mod pipelines;
mod rights;
mod scripts;
mod tls;
mod transactions;
mod world;
