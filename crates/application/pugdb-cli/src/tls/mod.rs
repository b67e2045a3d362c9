//! TLS on the command line: the certificates that `serve` makes for itself, those it is given, and whom a client trusts.
//!
//! | file | its part |
//! |---|---|
//! | `arguments` | the flags of `serve` and of clients |
//! | `exposure` | which addresses may be listened on, a pure function |
//! | `store` | an authority of one's own in a directory, and what it signs |
//! | `names` | what a server's certificate is for |
//! | `served` | what `serve` shows, and when that is read or made again |
//! | `trust` | whom a client believes, and what it says when it does not |
//! | `command` | `pugdb tls` |

mod arguments;
mod command;
mod exposure;
mod names;
mod served;
mod store;
mod trust;

pub(crate) use arguments::{ClientTls, Clients, ServeTls};
pub(crate) use command::{TlsCommandArguments, tls};
pub(crate) use exposure::{Accepted, Exposure};
pub(crate) use served::Served;
pub(crate) use trust::{Trust, explain};
