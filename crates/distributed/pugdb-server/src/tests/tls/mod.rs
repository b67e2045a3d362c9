//! TLS over real sockets: what clients see, what they have to show, and what happens to those that speak something else.

mod certificates;
mod hostile;
mod parts;
mod traffic;
