//! What clients see of values whose subject was erased.

use std::sync::Arc;

use pugdb::keys::{GivenKey, Secret};
use pugdb::{Database, EntryOptions};

use super::harness::{Running, options};

#[test]
fn a_value_that_was_erased_is_an_error_of_its_key_and_can_be_replaced_and_deleted() {
    let root = Arc::new(GivenKey::new(Secret::fill(|bytes| bytes.fill(7))));
    let server = Running::on_disk_as(Database::builder().root_key(root), options());
    let mut client = server.connect();
    assert_eq!(client.call(&["SET", "plain", "1"]), "+OK");
    let sealed = EntryOptions { seal: Some(server.db.subject("ada").unwrap()), ..EntryOptions::default() };
    for number in 0..9 {
        server.db.keyspace("db0").unwrap().put_with(format!("k{number}"), "1815", sealed).unwrap();
    }
    // What changes a value does not take it away from its subject.
    assert_eq!(client.call(&["GET", "k0"]), "\"1815\"");
    assert_eq!(client.call(&["INCR", "k0"]), ":1816");
    assert_eq!(client.call(&["APPEND", "k1", "!"]), ":5");
    assert_eq!(client.call(&["EXPIRE", "k2", "1000"]), ":1");
    assert_eq!(client.call(&["GETEX", "k3", "PERSIST"]), "\"1815\"");
    assert_eq!(client.call(&["COPY", "k4", "k9"]), ":1");
    assert_eq!(client.call(&["RENAME", "k5", "k10"]), "+OK");
    server.db.erase_subjects(&["ada"]).unwrap();

    for key in ["k0", "k1", "k2", "k3", "k4", "k9", "k10"] {
        let reply = client.call(&["GET", key]);
        assert!(reply.starts_with("-ERASED ") && !reply.contains(key), "{key}: {reply}");
    }
    assert!(client.call(&["INCR", "k0"]).starts_with("-ERASED "));
    assert_eq!(client.call(&["GET", "plain"]), "\"1\"");
    assert_eq!(client.call(&["KEYS", "*"]), "[\"plain\"]");
    // The rest of a transaction is carried out.
    client.call(&["MULTI"]);
    client.call(&["GET", "k0"]);
    client.call(&["SET", "other", "2"]);
    let reply = client.call(&["EXEC"]);
    assert!(reply.contains("-ERASED ") && reply.ends_with("+OK]"), "{reply}");
    assert_eq!(client.call(&["SET", "k0", "2"]), "+OK");
    assert_eq!(client.call(&["GET", "k0"]), "\"2\"");
    assert_eq!(client.call(&["DEL", "k1"]), ":1");
    assert_eq!(client.call(&["DEL", "k2", "k3", "none"]), ":2");
    assert_eq!(client.call(&["EXISTS", "k1", "k2", "k3"]), ":0");
    assert_eq!(client.call(&["PING"]), "+PONG");
}
