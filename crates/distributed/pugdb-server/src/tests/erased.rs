//! Erasure, legal holds and keys through a server, and what clients see of values whose subject was erased.

use std::sync::Arc;

use pugdb::audit::{Action, AuditOptions, Outcome};
use pugdb::keys::{Certificate, GivenKey, KeyFile, Secret};
use pugdb::{Builder, Database, EntryOptions};

use super::harness::{Client, Running, options};

fn encrypted() -> Builder {
    Database::builder().root_key(Arc::new(GivenKey::new(Secret::fill(|bytes| bytes.fill(7)))))
}

#[test]
fn a_value_that_was_erased_is_an_error_of_its_key_and_can_be_replaced_and_deleted() {
    let server = Running::on_disk_as(encrypted(), options());
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
    let reply = client.call(&["MGET", "plain", "k0", "none", "plain", "k1"]);
    let erased = client.call(&["GET", "k0"]);
    assert_eq!(reply, format!("[\"1\", {erased}, nil, \"1\", {erased}]"));
    client.call(&["MULTI"]);
    client.call(&["MGET", "k0", "plain"]);
    let reply = client.call(&["EXEC"]);
    assert!(reply.starts_with("[[-ERASED ") && reply.ends_with(", \"1\"]]"), "{reply}");
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

/// The certificate of an erasure.
fn certificate(client: &mut Client, words: &[&str]) -> Certificate {
    let reply = client.call(words);
    let text = reply.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let text = text.unwrap_or_else(|| panic!("{words:?}: {reply}")).replace("\\n", "\n");
    Certificate::parse(&text).unwrap()
}

#[test]
fn a_set_names_the_subject_and_a_command_erases_it() {
    let server = Running::on_disk_as(encrypted(), options());
    let mut client = server.connect();
    assert_eq!(client.call(&["SET", "none", "0"]), "+OK");
    for words in [
        &["SET", "plain", "1", "SUBJECT", "ada"][..],
        &["SET", "timed", "2", "PX", "1000000", "subject", "ada"],
        &["SET", "absent", "3", "SUBJECT", "ada", "NX"],
        &["SET", "none", "4", "XX", "SUBJECT", "ada"],
        &["SET", "timed", "5", "SUBJECT", "ada", "KEEPTTL"],
        &["SET", "bob", "6", "SUBJECT", "bob"],
        &["SET", "nobody", "7", "SUBJECT", "ada"],
        &["SET", "nobody", "8"],
    ] {
        assert_eq!(client.call(words), "+OK", "{words:?}");
    }
    assert_eq!(client.call(&["SET", "old", "9", "SUBJECT", "ada", "GET"]), "nil");
    assert_eq!(client.call(&["SELECT", "3"]), "+OK");
    client.call(&["MULTI"]);
    assert_eq!(client.call(&["SET", "queued", "10", "SUBJECT", "ada"]), "+QUEUED");
    assert_eq!(client.call(&["SET", "other", "11", "SUBJECT", ""]), "+QUEUED");
    let reply = client.call(&["EXEC"]);
    assert!(reply.starts_with("[+OK, -ERR ") && reply.contains("has 1 to"), "{reply}");
    assert_eq!(client.call(&["GET", "queued"]), "\"10\"");

    let certificate = certificate(&mut client, &["PUGDB", "ERASE-SUBJECT", "ada", "eve"]);
    let keys = server.db.keys().unwrap();
    assert!(certificate.erased.len() == 2 && certificate.signer == keys.signer());
    assert!(keys.is_about(&certificate.erased[0], b"ada") || keys.is_about(&certificate.erased[1], b"ada"));
    assert!(client.call(&["GET", "queued"]).starts_with("-ERASED "));
    client.call(&["SELECT", "0"]);
    for key in ["plain", "timed", "absent", "none", "old"] {
        assert!(client.call(&["GET", key]).starts_with("-ERASED "), "{key}");
    }
    assert_eq!(client.call(&["MGET", "bob", "nobody"]), "[\"6\", \"8\"]");
    // Who comes back is somebody else.
    assert_eq!(client.call(&["SET", "plain", "12", "SUBJECT", "ada"]), "+OK");
    assert_eq!(client.call(&["GET", "plain"]), "\"12\"");
    let report = client.call(&["PUGDB", "VERIFY-ERASURE"]);
    assert!(report.contains("\"erased\", :5, \"opened\", :0, \"damaged\", :0"), "{report}");
    let status = client.call(&["PUGDB", "KEY-STATUS"]);
    assert!(status.contains("\"erased_subjects\", :2") && status.contains("\"db3\""), "{status}");
}

#[test]
fn a_database_is_erased_beside_clients_that_use_it() {
    let server = Running::on_disk_as(encrypted(), options());
    let (mut admin, mut client) = (server.connect(), server.connect());
    client.call(&["SELECT", "3"]);
    client.call(&["SET", "a", "1"]);
    client.call(&["WATCH", "a", "b"]);
    client.call(&["MULTI"]);
    client.call(&["SET", "b", "2"]);
    let certificate = certificate(&mut admin, &["PUGDB", "ERASE-KEYSPACE", "db3"]);
    assert!(server.db.keys().unwrap().is_about(&certificate.erased[0], b"db3"));
    assert_eq!(client.call(&["EXEC"]), "nil array", "what was watched is gone");
    assert_eq!(client.call(&["EXISTS", "a", "b"]), ":0");
    assert_eq!(client.call(&["SET", "a", "3"]), "+OK");
    assert_eq!(client.call(&["KEYS", "*"]), "[\"a\"]");
    assert!(admin.call(&["PUGDB", "VERIFY-ERASURE"]).ends_with("\"erased_keyspaces\", :1]"));
    for name in ["db4", "", "nonsense"] {
        assert_eq!(admin.call(&["PUGDB", "ERASE-KEYSPACE", name]), "-ERR there is no keyspace of this name");
    }
}

#[test]
fn what_is_held_is_not_erased_until_it_is_released() {
    let server = Running::on_disk_as(encrypted(), options());
    let mut client = server.connect();
    client.call(&["SET", "a", "1", "SUBJECT", "ada"]);
    assert_eq!(client.call(&["PUGDB", "HOLD-SUBJECT", "ada", "bob"]), ":2");
    assert_eq!(client.call(&["PUGDB", "HOLD-SUBJECT", "ada"]), ":0");
    assert_eq!(client.call(&["PUGDB", "HOLD-KEYSPACE", "db0"]), ":1");
    let held = client.call(&["PUGDB", "HELD"]);
    assert!(held.matches("\"subject\"").count() == 2 && held.contains("\"keyspace\", \"db0\""), "{held}");
    assert!(!held.contains("ada"), "{held}");
    for words in [&["PUGDB", "ERASE-SUBJECT", "eve", "ada"][..], &["PUGDB", "ERASE-KEYSPACE", "db0"]] {
        let reply = client.call(words);
        assert!(reply.starts_with("-NOPERM ") && reply.contains("hold"), "{reply}");
    }
    assert_eq!(client.call(&["GET", "a"]), "\"1\"");
    assert_eq!(client.call(&["PUGDB", "RELEASE-KEYSPACE", "db0"]), ":1");
    assert_eq!(client.call(&["PUGDB", "RELEASE-SUBJECT", "ada", "bob"]), ":2");
    assert_eq!(client.call(&["PUGDB", "HELD"]), "[]");
    certificate(&mut client, &["PUGDB", "ERASE-SUBJECT", "ada"]);
    certificate(&mut client, &["PUGDB", "ERASE-KEYSPACE", "db0"]);
}

#[test]
fn keys_are_changed_while_a_server_runs() {
    let keys = tempfile::tempdir().unwrap();
    let root = KeyFile::new(keys.path().join("root.key"));
    let server = Running::on_disk_as(Database::builder().root_key(root), options());
    let mut client = server.connect();
    client.call(&["SET", "a", "1"]);
    client.call(&["SAVE"]);
    let rotated = client.call(&["PUGDB", "KEY-ROTATE"]);
    assert!(rotated.contains("\"old_root_key_destroyed\", :1") && rotated.contains("root.key"), "{rotated}");
    assert_eq!(client.call(&["PUGDB", "KEY-REWRITE", "0"]).split(", ").nth(1), Some(":0"));
    server.world.clock.advance(1000);
    assert!(client.call(&["PUGDB", "KEY-RENEW"]).starts_with("[\"keyring_generation\", :"));
    let rewritten = client.call(&["PUGDB", "KEY-REWRITE", "0"]);
    assert!(rewritten.starts_with("[\"rewritten_files\", :1,"), "{rewritten}");
    assert!(rewritten.contains("\"left_files\", :0"), "{rewritten}");
    assert_eq!(client.call(&["GET", "a"]), "\"1\"");
    for words in [&["-1"][..], &["x"], &["1", "2"]] {
        assert!(client.call(&[&["PUGDB", "KEY-REWRITE"], words].concat()).starts_with("-ERR "), "{words:?}");
    }
}

#[test]
fn without_encryption_there_is_nothing_to_erase_and_nothing_is_written_for_a_subject() {
    let server = Running::on_disk();
    let mut client = server.connect();
    client.call(&["SET", "a", "1"]);
    assert!(
        client.call(&["SET", "a", "2", "SUBJECT", "ada"]).starts_with("-ERR the database is not encrypted")
    );
    assert_eq!(client.call(&["GET", "a"]), "\"1\"");
    for words in [
        &["ERASE-SUBJECT", "ada"][..],
        &["ERASE-KEYSPACE", "db0"],
        &["HOLD-SUBJECT", "ada"],
        &["RELEASE-KEYSPACE", "db0"],
        &["HELD"],
        &["KEY-STATUS"],
        &["KEY-ROTATE"],
        &["KEY-RENEW"],
        &["KEY-REWRITE"],
        &["VERIFY-ERASURE"],
    ] {
        let reply = client.call(&[&["PUGDB"], words].concat());
        assert!(reply.starts_with("-ERR the database is not encrypted"), "{words:?}: {reply}");
    }
    assert_eq!(client.call(&["GET", "a"]), "\"1\"");
}

#[test]
fn erasure_needs_rights_to_all_that_it_reaches() {
    let server = Running::on_disk_as(encrypted(), options());
    let (mut admin, mut user) = (server.connect(), server.connect());
    admin.call(&["SET", "a", "1", "SUBJECT", "ada"]);
    let mut ask = |words: &[&str], request: &[&str]| {
        let setuser = [&["ACL", "SETUSER", "u", "reset", "on", "nopass"], words].concat();
        assert_eq!(admin.call(&setuser), "+OK");
        assert_eq!(user.call(&["AUTH", "u", "x"]), "+OK");
        user.call(request)
    };
    let (subject, keyspace) = (["PUGDB", "ERASE-SUBJECT", "ada"], ["PUGDB", "ERASE-KEYSPACE", "db3"]);
    for words in [
        &["+@all", "-@dangerous", "~*"][..],
        &["+@write", "+@read", "~*"],
        &["+@all", "~a*"],
        &["+@all", "%R~*"],
        &["+@all", "~*", "resetkeyspaces", "keyspace:db0"],
    ] {
        assert!(ask(words, &subject).starts_with("-NOPERM "), "{words:?}");
        assert!(ask(words, &keyspace).starts_with("-NOPERM "), "{words:?}");
    }
    let only = ["+pugdb|erase-keyspace", "%W~*", "resetkeyspaces", "keyspace:db3"];
    assert_eq!(ask(&only, &keyspace), "-ERR there is no keyspace of this name");
    assert!(ask(&only, &subject).starts_with("-NOPERM "));
    // Who may erase need not be one who may read.
    let officer = ["+pugdb|erase-subject", "%W~*"];
    assert!(ask(&officer, &["GET", "a"]).starts_with("-NOPERM "));
    assert!(ask(&officer, &["PUGDB", "KEY-ROTATE"]).starts_with("-NOPERM "));
    assert!(ask(&officer, &subject).starts_with('"'));
    assert!(admin.call(&["GET", "a"]).starts_with("-ERASED "));
}

#[test]
fn what_is_done_about_keys_is_recorded_once_and_names_nobody() {
    let server = Running::on_disk_as(encrypted().audit(AuditOptions::default()), options());
    let mut client = server.connect();
    client.call(&["CONFIG", "SET", "slowlog-log-slower-than", "0"]);
    let secret = "ada-9f31c7";
    for words in [
        &["SET", "a", "1", "SUBJECT", secret][..],
        &["PUGDB", "HOLD-SUBJECT", secret],
        &["PUGDB", "ERASE-SUBJECT", secret],
        &["PUGDB", "RELEASE-SUBJECT", secret],
        &["PUGDB", "ERASE-SUBJECT", secret],
        &["PUGDB", "HOLD-KEYSPACE", "db0"],
        &["PUGDB", "RELEASE-KEYSPACE", "db0"],
        &["PUGDB", "KEY-ROTATE"],
        &["PUGDB", "KEY-RENEW"],
        &["PUGDB", "KEY-REWRITE", "0"],
        &["PUGDB", "ERASE-KEYSPACE", "db0"],
        &["PUGDB", "ERASE-KEYSPACE", secret],
        &["SLOWLOG", "GET", "-1"],
        &["INFO", "everything"],
        &["ACL", "LOG"],
        &["CLIENT", "LIST"],
    ] {
        let reply = client.call(words);
        assert!(!reply.contains(secret), "{words:?}: {reply}");
    }
    let mut trail = Vec::new();
    let log = server.db.audit().unwrap().log();
    log.records(&mut |record| {
        let event = &record.event;
        if event.action != Action::Open {
            trail.push((event.action, record.actor.name().to_owned(), event.outcome));
        }
        assert!(!format!("{record:?}").contains(secret));
        Ok(true)
    })
    .unwrap();
    for (action, done, refused) in [
        (Action::Hold, 2, 0),
        (Action::Release, 2, 0),
        (Action::EraseSubjects, 1, 1),
        (Action::EraseKeyspace, 1, 0),
        (Action::KeyRotate, 1, 0),
        (Action::KeyRenew, 1, 0),
        (Action::Admin, 1, 0),
    ] {
        let of_it: Vec<_> = trail.iter().filter(|(of, ..)| *of == action).collect();
        assert!(of_it.iter().all(|(_, name, _)| name == "default"), "{of_it:?}");
        let count = |outcome| of_it.iter().filter(|(_, _, of)| *of == outcome).count();
        assert_eq!((count(Outcome::Done), count(Outcome::Refused)), (done, refused), "{action:?}: {of_it:?}");
    }
}
