//! What the audit log has of a server: who came in and who did not, and what operators did.

use pugdb::Database;
use pugdb::audit::{Action, AuditOptions, ObjectKind, OnFailure, Outcome};

use super::harness::{Running, options};
use super::world::Fate;

/// Action, who, what came of it, in the order of the log.
fn trail(server: &Running) -> Vec<(Action, String, Outcome)> {
    let mut found = Vec::new();
    let log = server.db.audit().unwrap().log();
    log.records(&mut |record| {
        found.push((record.event.action, record.actor.name().to_owned(), record.event.outcome));
        Ok(true)
    })
    .unwrap();
    found
}

fn audited() -> Running {
    Running::on_disk_as(Database::builder().audit(AuditOptions::default()), options())
}

#[test]
fn logins_rights_and_what_operators_do_are_recorded_with_who_did_it() {
    let server = audited();
    let mut admin = server.connect();
    for words in [
        &["ACL", "SETUSER", "root", "on", ">a password of roots", "+@all", "~*"][..],
        &["AUTH", "root", "a password of roots"],
        &["SET", "key", "value"],
        &["ACL", "SETUSER", "ada", "on", ">a password of ada", "+get", "~*"],
        &["CONFIG", "SET", "timeout", "100"],
        &["FLUSHALL"],
        &["MULTI"],
    ] {
        let reply = admin.call(words);
        assert!(reply == "+OK", "{words:?}: {reply}");
    }
    assert_eq!(admin.call(&["FLUSHDB"]), "+QUEUED");
    assert_eq!(admin.call(&["EXEC"]), "[+OK]");
    assert!(admin.call(&["CONFIG", "SET", "timeout", "nonsense"]).starts_with('-'));
    let mut guesser = server.connect();
    assert!(guesser.call(&["AUTH", "ada", "not it"]).starts_with("-WRONGPASS"));
    assert!(guesser.call(&["AUTH", "eve", "a password in the wrong place"]).starts_with("-WRONGPASS"));
    // What is refused for want of rights is in the list of denials, and not here.
    assert_eq!(guesser.call(&["AUTH", "ada", "a password of ada"]), "+OK");
    assert!(guesser.call(&["FLUSHALL"]).starts_with("-NOPERM"));

    let trail = trail(&server);
    let count = |action, who: &str, outcome: fn(&Outcome) -> bool| {
        trail.iter().filter(|(a, name, o)| *a == action && name == who && outcome(o)).count()
    };
    let (done, failed) = (|o: &Outcome| *o == Outcome::Done, |o: &Outcome| *o == Outcome::Refused);
    assert_eq!(count(Action::Auth, "root", done), 1, "{trail:?}");
    assert_eq!(count(Action::Auth, "ada", done), 1, "{trail:?}");
    assert_eq!(count(Action::Auth, "ada", failed), 1, "{trail:?}");
    assert_eq!(count(Action::Auth, "(unknown)", failed), 1, "{trail:?}");
    assert_eq!(count(Action::Rights, "default", done), 1, "{trail:?}");
    assert_eq!(count(Action::Rights, "root", done), 1, "{trail:?}");
    assert_eq!(count(Action::Config, "root", done), 1, "{trail:?}");
    assert_eq!(count(Action::Config, "root", failed), 1, "{trail:?}");
    assert_eq!(count(Action::Flush, "root", done), 2, "{trail:?}");
    assert_eq!(count(Action::KeyspaceTruncate, "root", done), 2, "what a transaction does, too: {trail:?}");
    assert_eq!(count(Action::KeyspaceCreate, "root", done), 1, "{trail:?}");
    assert!(trail[1..].iter().all(|(_, name, _)| name != "program"), "{trail:?}");
    assert!(trail.iter().all(|(action, ..)| *action != Action::Admin), "rights are recorded once: {trail:?}");
    assert_eq!(count(Action::Flush, "ada", |_| true), 0, "{trail:?}");

    let (audit, mut about) = (server.db.audit().unwrap(), 0);
    let ada = audit.object(ObjectKind::User, b"ada");
    audit
        .log()
        .records(&mut |record| {
            about += usize::from(record.event.objects.contains(&ada));
            Ok(true)
        })
        .unwrap();
    assert_eq!(about, 4, "two of the change of her rights, two of her logins");
    assert!(audit.verify().unwrap().problem.is_none());
}

#[test]
fn what_cannot_be_recorded_is_not_done_unless_it_is_to_go_on() {
    for on_failure in [OnFailure::Block, OnFailure::Continue] {
        let options_of_audit = AuditOptions { on_failure, ..AuditOptions::default() };
        let server = Running::on_disk_as(Database::builder().audit(options_of_audit), options());
        let mut admin = server.connect();
        assert_eq!(admin.call(&["ACL", "SETUSER", "ada", "on", ">a password of ada", "+@all", "~*"]), "+OK");
        assert_eq!(admin.call(&["SET", "key", "value"]), "+OK");
        server.world.syncs.set(Fate::FailAudit);
        let refused = |reply: String| reply.starts_with('-');
        let blocks = on_failure == OnFailure::Block;
        assert_eq!(refused(admin.call(&["CONFIG", "SET", "timeout", "100"])), blocks);
        assert_eq!(refused(admin.call(&["AUTH", "ada", "a password of ada"])), blocks);
        assert_eq!(refused(admin.call(&["ACL", "SETUSER", "bob", "on"])), blocks);
        assert_eq!(refused(admin.call(&["FLUSHALL"])), blocks);
        assert_eq!(admin.call(&["EXISTS", "key"]), if blocks { ":1" } else { ":0" });
        assert_eq!(
            admin.call(&["CONFIG", "GET", "timeout"]),
            if blocks { "[\"timeout\", \"0\"]" } else { "[\"timeout\", \"100\"]" }
        );
        server.world.syncs.set(Fate::Pass);
    }
}
