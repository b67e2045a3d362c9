//! Rights over several connections: what is taken while somebody is there, who is put out, what floods and secrets come to.

use std::sync::Arc;

use super::harness::{Client, Running, options, request};
use super::world::Fate;
use crate::clients::Address;
use crate::limits::LOGIN_FAILURES_MAX;
use crate::session::Session;
use crate::shared::Shared;

/// An administrator, and a connection of the user `ada` with these words.
fn with_ada(server: &Running, words: &[&str]) -> (Client, Client) {
    let mut admin = server.connect();
    let setuser = [&["ACL", "SETUSER", "ada", "on", "nopass"], words].concat();
    assert_eq!(admin.call(&setuser), "+OK");
    let mut ada = server.connect();
    assert_eq!(ada.call(&["AUTH", "ada", "x"]), "+OK");
    (admin, ada)
}

#[test]
fn rights_that_are_taken_between_queueing_and_exec_are_gone_at_exec() {
    let server = Running::in_memory();
    let (mut admin, mut ada) = with_ada(&server, &["~a*", "+@all"]);
    admin.call(&["MSET", "a1", "x", "b1", "y"]);
    for (words, reason) in [
        (["resetkeys", "~b*"], "no permission to touch the specified keys"),
        (["-get", "-get"], "no permission to execute the command"),
        (["resetkeyspaces", "keyspace:db5"], "no permission"),
    ] {
        assert_eq!(ada.call(&["MULTI"]), "+OK");
        assert_eq!(ada.call(&["GET", "a1"]), "+QUEUED");
        assert_eq!(admin.call(&["ACL", "SETUSER", "ada", words[0], words[1]]), "+OK");
        assert_eq!(ada.call(&["PING"]), "+QUEUED");
        let reply = ada.call(&["EXEC"]);
        let expected = format!(
            "[-NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This \
             command is no longer allowed for the following reason: {reason}, +PONG]"
        );
        assert_eq!(reply, expected);
        assert_eq!(admin.call(&["ACL", "SETUSER", "ada", "reset", "on", "nopass", "~a*", "+@all"]), "+OK");
    }
    assert_eq!(ada.call(&["GET", "a1"]), "\"x\"");
    let log = admin.call(&["ACL", "LOG", "1"]);
    assert!(log.contains("\"multi\"") && log.contains("\"keyspace\""), "{log}");
}

#[test]
fn a_user_who_goes_between_queueing_and_exec_runs_nothing() {
    let server = Running::in_memory();
    let (mut admin, mut ada) = with_ada(&server, &["~*", "+@all"]);
    assert_eq!(ada.call(&["MULTI"]), "+OK");
    assert_eq!(ada.call(&["SET", "a", "1"]), "+QUEUED");
    assert_eq!(admin.call(&["ACL", "DELUSER", "ada"]), ":1");
    ada.send(request(&["EXEC"]));
    assert_eq!(ada.text(), "closed");
    assert_eq!(admin.call(&["EXISTS", "a"]), ":0");
}

#[test]
fn a_change_counts_for_the_next_command_and_who_is_removed_or_off_is_put_out() {
    let server = Running::in_memory();
    let (mut admin, mut ada) = with_ada(&server, &["~a*", "+@all"]);
    assert_eq!(ada.call(&["SET", "a1", "x"]), "+OK");
    assert_eq!(admin.call(&["ACL", "SETUSER", "ada", "-set"]), "+OK");
    assert_eq!(ada.call(&["SET", "a1", "x"]), "-NOPERM User ada has no permissions to run the 'set' command");
    assert_eq!(admin.call(&["ACL", "SETUSER", "ada", "+set"]), "+OK");
    assert_eq!(ada.call(&["SET", "a1", "x"]), "+OK");
    let mut other = server.connect();
    assert_eq!(other.call(&["AUTH", "ada", "x"]), "+OK");
    assert_eq!(admin.call(&["ACL", "SETUSER", "ada", "off"]), "+OK");
    // Both were idle, and are told by the end of the connection.
    assert_eq!((ada.text().as_str(), other.text().as_str()), ("closed", "closed"));
    assert!(admin.call(&["AUTH", "ada", "x"]).starts_with("-WRONGPASS"));
    assert_eq!(admin.call(&["ACL", "WHOAMI"]), "\"default\"");
}

#[test]
fn whoever_embeds_the_database_can_change_rights_under_a_connection() {
    let server = Running::in_memory();
    let (mut admin, mut ada) = with_ada(&server, &["~*", "+@all"]);
    let rights = server.db.rights().unwrap();
    rights.change(|rights, _| rights.remove_user("ada").then_some(()).ok_or(())).unwrap().unwrap();
    ada.send(request(&["GET", "a"]));
    assert_eq!(ada.text(), "closed");
    assert_eq!(admin.call(&["ACL", "USERS"]), "[\"default\"]");
}

#[test]
fn watching_tells_nothing_of_keys_that_may_not_be_read() {
    let server = Running::in_memory();
    let (mut admin, mut ada) = with_ada(&server, &["~a*", "%W~b*", "+@all"]);
    assert_eq!(ada.call(&["WATCH", "a1", "b1"]), "-NOPERM No permissions to access a key");
    assert_eq!(admin.call(&["SET", "b1", "x"]), "+OK");
    assert_eq!(ada.call(&["MULTI"]), "+OK");
    assert_eq!(ada.call(&["PING"]), "+QUEUED");
    assert_eq!(ada.call(&["EXEC"]), "[+PONG]");
}

#[test]
fn the_portions_of_a_scan_do_not_tell_how_much_is_hidden() {
    let server = Running::in_memory();
    let (mut admin, mut ada) = with_ada(&server, &["~a*", "~c*", "+@all"]);
    for key in ["a1", "c1"] {
        admin.call(&["SET", key, "x"]);
    }
    let mut portions = || {
        let (mut cursor, mut count, mut keys) = ("0".to_owned(), 0, String::new());
        loop {
            let reply = ada.call(&["SCAN", &cursor, "COUNT", "1"]);
            count += 1;
            let (next, found) = reply.trim_matches(['[', ']']).split_once(", ").unwrap();
            keys.push_str(found);
            cursor = next.trim_matches('"').to_owned();
            if cursor == "0" {
                return (count, keys);
            }
        }
    };
    let before = portions();
    for number in 0..500 {
        admin.call(&["SET", &format!("b{number}"), "x"]);
    }
    assert_eq!(portions(), before);
    assert!(before.1.contains("a1") && before.1.contains("c1"));
}

#[test]
fn who_has_not_logged_in_can_send_little() {
    let server = Running::in_memory();
    let mut admin = server.connect();
    assert_eq!(admin.call(&["CONFIG", "SET", "requirepass", "s3cret"]), "+OK");
    let large = "x".repeat((16 << 10) + 1);
    let many = ["AUTH"; 11];
    for refused in [request(&["AUTH", &large]), request(&many), request(&["ECHO", &large])] {
        let mut client = server.connect();
        client.send(&refused);
        let reply = client.text();
        assert!(reply.starts_with("-ERR Protocol error"), "{reply}");
        assert_eq!(client.text(), "closed");
    }
    let mut client = server.connect();
    // What comes behind the login in the same bytes has the large limits already.
    client.send([request(&["AUTH", "s3cret"]), request(&["ECHO", &large])].concat());
    assert_eq!((client.text().as_str(), client.text().len()), ("+OK", large.len() + 2));
    assert_eq!(client.call(&["RESET"]), "+RESET");
    client.send(request(&["ECHO", &large]));
    assert!(client.text().starts_with("-ERR Protocol error"));
}

#[test]
fn guessing_from_one_address_is_held_off_and_who_was_right_goes_on() {
    let server = Running::in_memory();
    let mut admin = server.connect();
    assert_eq!(admin.call(&["ACL", "SETUSER", "ada", "on", ">s3cret", "~*", "+@all"]), "+OK");
    let mut client = server.connect();
    assert_eq!(client.call(&["AUTH", "ada", "s3cret"]), "+OK");
    let mut held_off = 0;
    for number in 0..LOGIN_FAILURES_MAX * 3 {
        let reply = client.call(&["AUTH", "ada", &number.to_string()]);
        held_off += usize::from(reply.starts_with("-ERR too many logins"));
        assert!(reply.starts_with("-WRONGPASS") || reply.starts_with("-ERR too many logins"), "{reply}");
    }
    assert!(held_off > 0);
    assert_eq!(server.shared.stats.logins_held_off.get(), held_off as u64);
    // One is let through with each second.
    assert!((0..100).any(|_| client.call(&["AUTH", "nobody", "x"]).starts_with("-ERR too many")));
    assert_eq!(server.connect().call(&["AUTH", "ada", "s3cret"]), "+OK");
}

#[test]
fn a_pool_that_logs_in_at_once_is_let_in_and_holds_up_nobody() {
    let server = Running::in_memory();
    let mut admin = server.connect();
    assert_eq!(admin.call(&["ACL", "SETUSER", "ada", "on", ">s3cret", "~*", "+@all"]), "+OK");
    let mut pool: Vec<Client> = (0..200).map(|_| server.connect()).collect();
    for client in &mut pool {
        client.send([request(&["AUTH", "ada", "s3cret"]), request(&["GET", "a"])].concat());
    }
    assert_eq!(admin.call(&["PING"]), "+PONG");
    for client in &mut pool {
        assert_eq!((client.text().as_str(), client.text().as_str()), ("+OK", "nil"));
    }
    assert_eq!(server.shared.stats.logins.get(), 200);
    assert_eq!(server.shared.logins.turns.available_permits(), pugdb::rights::limits::HASHES_AT_ONCE);
}

#[test]
fn a_server_that_ends_waits_for_no_login() {
    let mut server = Running::in_memory();
    let mut clients: Vec<Client> = (0..20).map(|_| server.connect()).collect();
    let turns = Arc::clone(&server.shared.logins.turns);
    let all = u32::try_from(pugdb::rights::limits::HASHES_AT_ONCE).unwrap();
    let taken = turns.try_acquire_many(all).unwrap();
    for client in &mut clients {
        client.send(request(&["AUTH", "nobody", "x"]));
    }
    // Whoever waits for its turn holds up nobody else.
    let waiting = |shared: &Shared| {
        let clients = shared.clients.all();
        clients.iter().filter(|client| client.see(|state| state.is_waiting)).count()
    };
    server.eventually(|shared| waiting(shared) == 20);
    assert!(clients.iter_mut().all(Client::is_silent));
    server.ask_to_stop();
    server.wait_for_end();
    drop(taken);
    for client in &mut clients {
        let last = client.text();
        assert!(last.starts_with("-WRONGPASS") || last == "closed", "{last}");
    }
}

#[test]
fn a_change_that_is_not_durable_is_an_error() {
    let server = Running::on_disk();
    let mut admin = server.connect();
    assert_eq!(admin.call(&["ACL", "SETUSER", "ada", "on", "nopass"]), "+OK");
    server.world.syncs.set(Fate::Fail);
    assert!(admin.call(&["ACL", "SETUSER", "ada", "~*"]).starts_with("-UNAVAILABLE"));
    server.world.syncs.set(Fate::Pass);
    assert!(admin.call(&["ACL", "LIST"]).contains("user ada on nopass sanitize-payload resetchannels -@all"));
}

#[test]
fn a_verified_certificate_logs_in_as_the_user_that_names_it() {
    let server = Running::in_memory();
    let mut admin = server.connect();
    assert_eq!(admin.call(&["ACL", "SETUSER", "ada", "on", "cert:CN=ada", "~*", "+@all"]), "+OK");
    let here = Address::Unix(Arc::new("socket".into()));
    let place = server.shared.clients.register(here.clone(), here, None, 100).unwrap();
    let mut session = Session::new(Arc::clone(&server.shared), Arc::clone(&place.client));
    assert!(!session.log_in_by_certificate("CN=eve") && session.identity.name() == "default");
    assert!(session.log_in_by_certificate("CN=ada") && session.identity.name() == "ada");
    assert!(admin.call(&["CLIENT", "LIST"]).contains("user=ada"));
    // The name of a certificate is no password.
    assert!(admin.call(&["AUTH", "ada", "CN=ada"]).starts_with("-WRONGPASS"));
}

/// A password takes a while to be checked, and what is right at the beginning of that need not be at its end.
#[test]
fn who_logs_in_while_the_user_changes_is_not_who_it_was() {
    let server = Running::in_memory();
    let mut admin = server.connect();
    assert_eq!(admin.call(&["ACL", "SETUSER", "ada", "on", ">one", "~*", "+@all"]), "+OK");
    let here = Address::Unix(Arc::new("socket".into()));
    let place = server.shared.clients.register(here.clone(), here, None, 100).unwrap();
    let mut session = Session::new(Arc::clone(&server.shared), Arc::clone(&place.client));
    for change in [
        &["ACL", "SETUSER", "ada", "resetpass", ">two"][..],
        &["ACL", "SETUSER", "ada", "off"],
        &["ACL", "DELUSER", "ada"],
    ] {
        let ada = Arc::clone(server.shared.rights.current().user("ada").unwrap());
        assert!(!admin.call(change).starts_with('-'));
        assert!(!session.become_user(ada), "{change:?}");
        assert_eq!(session.identity.name(), "default");
    }
    // A change of somebody else is none of hers.
    assert_eq!(admin.call(&["ACL", "SETUSER", "ada", "on", ">one", "~*", "+@all"]), "+OK");
    let ada = Arc::clone(server.shared.rights.current().user("ada").unwrap());
    assert_eq!(admin.call(&["ACL", "SETUSER", "bob", "on"]), "+OK");
    assert!(session.become_user(ada) && session.identity.name() == "ada");
}

#[test]
fn what_was_queued_for_a_database_that_is_out_of_reach_is_done_nowhere() {
    let server = Running::in_memory();
    let (mut admin, mut ada) = with_ada(&server, &["~*", "+@all"]);
    for call in [&["MULTI"][..], &["SET", "k", "1"], &["SELECT", "3"], &["SET", "k", "2"]] {
        assert!(ada.call(call).starts_with('+'));
    }
    assert_eq!(admin.call(&["ACL", "SETUSER", "ada", "resetkeyspaces", "keyspace:db0"]), "+OK");
    let reply = ada.call(&["EXEC"]);
    assert_eq!(reply.matches("-NOPERM").count(), 2, "{reply}");
    assert!(reply.starts_with("[+OK") && reply.contains("its database was not selected"), "{reply}");
    assert_eq!(admin.call(&["GET", "k"]), "\"1\"");
}

#[test]
fn who_may_not_run_a_command_does_not_make_others_wait_for_it() {
    let server = Running::in_memory();
    let mut admin = server.connect();
    assert_eq!(admin.call(&["CONFIG", "SET", "requirepass", "s3cret"]), "+OK");
    let here = Address::Unix(Arc::new("socket".into()));
    let place = server.shared.clients.register(here.clone(), here, None, 100).unwrap();
    let mut session = Session::new(Arc::clone(&server.shared), Arc::clone(&place.client));
    let swapdb = ["SWAPDB", "0", "1"].map(bytes::Bytes::from);
    assert!(!crate::commands::is_exclusive(&session, &swapdb));
    let user = Arc::clone(server.shared.rights.current().user("default").unwrap());
    assert!(session.become_user(user));
    assert!(crate::commands::is_exclusive(&session, &swapdb));
}

#[test]
fn secrets_are_in_nothing_that_the_server_tells() {
    let server = Running::in_memory_with(options());
    let mut admin = server.connect();
    let mut told = String::new();
    let mut tell = |client: &mut Client, call: &[&str]| told += &client.call(call);
    tell(&mut admin, &["CONFIG", "SET", "slowlog-log-slower-than", "0"]);
    tell(&mut admin, &["ACL", "SETUSER", "ada", "on", ">hunter2", "~a*", "+@all"]);
    tell(&mut admin, &["ACL", "SETUSER", "ada", ">hunter2", "nonsense"]);
    tell(&mut admin, &["ACL", "SETUSER", "ada", "hunter2"]);
    tell(&mut admin, &["ACL", "SETUSER", "ada", "<hunter2hunter2"]);
    let mut ada = server.connect();
    for call in [
        &["AUTH", "ada", "hunter2"][..],
        &["AUTH", "hunter2", "x"],
        &["AUTH", "ada", "hunter2hunter2"],
        &["HELLO", "3", "AUTH", "hunter2", "x"],
        &["GET", "hunter2-key"],
        &["SET", "hunter2-key", "hunter2"],
    ] {
        tell(&mut ada, call);
    }
    for call in [
        &["ACL", "LOG", "100"][..],
        &["ACL", "LIST"],
        &["ACL", "GETUSER", "ada"],
        &["SLOWLOG", "GET", "100"],
        &["CLIENT", "LIST"],
        &["INFO", "everything"],
        &["CONFIG", "GET", "*"],
    ] {
        tell(&mut admin, call);
    }
    assert!(told.contains("argon2id") && !told.contains("hunter2"), "{told}");
}

#[test]
fn hostile_rules_are_refused_and_take_no_memory() {
    let server = Running::in_memory();
    let mut admin = server.connect();
    let pattern = format!("~{}", "a*".repeat(1 << 19));
    assert!(
        admin.call(&["ACL", "SETUSER", "eve", &pattern]).contains("No more than 1024 bytes in a pattern")
    );
    let rules: Vec<String> = (0..100_000).map(|number| format!("~key{number}*")).collect();
    let rules = ["ACL", "SETUSER", "eve"].into_iter().chain(rules.iter().map(String::as_str));
    assert!(admin.call(&rules.collect::<Vec<_>>()).contains("No more than 256 patterns of keys"));
    let nested = "(".repeat(100_000) + &")".repeat(100_000);
    assert!(admin.call(&["ACL", "SETUSER", "eve", &nested]).contains("Syntax error"));
    assert!(admin.call(&["ACL", "SETUSER", &"e".repeat(1 << 20), "on"]).contains("not a name"));
    assert_eq!(admin.call(&["ACL", "USERS"]), "[\"default\"]");
    // A pattern that is made to be slow takes pattern times key.
    let slow = format!("~{}b", "a*".repeat(500));
    assert_eq!(admin.call(&["ACL", "SETUSER", "eve", "on", "nopass", &slow, "+@all"]), "+OK");
    let mut eve = server.connect();
    assert_eq!(eve.call(&["AUTH", "eve", "x"]), "+OK");
    assert!(eve.call(&["GET", &"a".repeat(10_000)]).starts_with("-NOPERM"));
}

#[test]
fn what_is_queued_behind_a_select_is_checked_for_the_database_that_it_selects() {
    let server = Running::in_memory();
    let words = ["~a*", "+@all", "keyspace:db0", "(~b* +@all keyspace:db1)"];
    let (_admin, mut ada) = with_ada(&server, &words);
    assert_eq!(ada.call(&["MULTI"]), "+OK");
    assert_eq!(ada.call(&["SELECT", "1"]), "+QUEUED");
    assert_eq!(ada.call(&["SET", "b1", "x"]), "+QUEUED");
    assert_eq!(ada.call(&["EXEC"]), "[+OK, +OK]");
    assert_eq!(ada.call(&["SELECT", "0"]), "+OK");
    assert_eq!(ada.call(&["MULTI"]), "+OK");
    assert_eq!(ada.call(&["SELECT", "1"]), "+QUEUED");
    assert_eq!(ada.call(&["GET", "a1"]), "-NOPERM No permissions to access a key");
    assert_eq!(ada.call(&["EXEC"]), "-EXECABORT Transaction discarded because of previous errors.");
}
