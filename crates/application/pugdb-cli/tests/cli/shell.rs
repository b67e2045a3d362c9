//! `shell` with a script on stdin: on a directory, and the same through a server.

use crate::command::{pugdb, pugdb_with};
use crate::keys::Face;

#[test]
fn a_script_runs_alike_on_a_directory_and_through_a_server() {
    for face in Face::both() {
        let script = "# a comment\n\nput ada 1815\nput 'a b' \"\\x00\\\"\\n\"\nput c \\\n  3\nget ada\nget 'a b'\n\
                      exists ada c nope\nscan\nscan c\nscan limit 2 keys\nscan reverse limit 1\ncount\ncount a\n\
                      delete c nope\nexists c\nput t 1 ex 1000\nttl t\npersist t\nttl t\nexpire t 500\nttl t\n";
        let answers = "1815\n\\x00\"\\n\n2\na b\t\\x00\"\\n\nada\t1815\nc\t3\nc\t3\na b\nada\nc\t3\n3\n2\n1\n0\n1000\n-1\n500\n";
        face.run_with(&["shell"], script.as_bytes()).gives(0, answers);
        let stats = face.run_with(&["shell"], b"stats\n");
        assert!(stats.code == 0 && stats.text().lines().count() > 5, "{stats}");
    }
}

#[test]
fn a_script_stops_at_the_first_failure_or_goes_on() {
    for face in Face::both() {
        face.run(&["put", "a", "1"]).gives(0, "");
        let script = b"get a\nget nope\nget a\nput a\nput \"\n";
        face.run_with(&["shell"], script).gives(1, "1\n").fails(1, &["pugdb: line 2: there is no such key"]);
        face.run_with(&["shell", "--keep-going"], script)
            .gives(1, "1\n1\n")
            .fails(1, &["line 2: ", "line 4: write it as: put KEY VALUE", "line 5: a quote is open"]);
        face.run_with(&["shell"], b"put a \"x\"y\n")
            .fails(2, &["line 1: behind a closing quote comes a blank"]);
        for key_command in ["ttl nope", "expire nope 1", "persist nope"] {
            face.run_with(&["shell"], key_command.as_bytes()).fails(1, &["no such key"]);
        }
        face.run_with(&["shell"], b"put a 1 ex 0\n").fails(2, &["a whole number from 1"]);
        face.run_with(&["shell"], b"exit\nget nope\n").gives(0, "");
    }
}

#[test]
fn a_keyspace_is_chosen_and_made_by_the_first_put() {
    let dir = tempfile::tempdir().unwrap();
    let script = b"use users\nscan\ncount\nput a 1\nkeyspaces\nuse db0\nscan\nput b 2\nkeyspaces\n";
    pugdb_with(dir.path(), &["shell"], script).gives(0, "0\nusers\ndb0\nusers\n");
    pugdb(dir.path(), &["scan", "--keyspace", "users"]).gives(0, "a\t1\n");
    pugdb_with(dir.path(), &["shell"], b"gte a\n").fails(2, &["did you mean get?"]);
    let [_, server] = Face::both();
    server.run_with(&["shell"], b"use db3\nput a 1\nuse db0\ncount\nuse db3\nget a\n").gives(0, "0\n1\n");
    server.run_with(&["shell"], b"use users\n").fails(2, &["db0 to db15"]);
}

#[test]
fn a_range_of_keys_is_deleted_in_a_directory_only() {
    let [local, server] = Face::both();
    let script = b"put a 1\nput b 2\nput c 3\nput d 4\ndelete-range b d\nscan\ndelete-range d\ncount\n\
                   delete-range b a\ndelete-range \"\"\ncount\n";
    local.run_with(&["shell"], script).gives(0, "a\t1\nd\t4\n1\n0\n");
    local.run_with(&["shell"], b"delete-range\n").fails(2, &["write it as: delete-range FROM [TO]"]);
    server.run_with(&["shell"], b"delete-range a\n").fails(2, &["a server deletes no ranges"]);
}

#[test]
fn other_words_go_to_the_server_as_they_are() {
    let [_, server] = Face::both();
    let script = b"SET a \"x\\x00\"\nGET a\nget a\nMGET a b\nDEL a b\nGET a\nEXISTS\n";
    server
        .run_with(&["shell"], script)
        .gives(4, "OK\n\"x\\x00\"\nx\\x00\n1) \"x\\x00\"\n2) (nil)\n(integer) 1\n(nil)\n(error) ERR wrong number of arguments for 'exists' command\n");
    server.run_with(&["shell"], b"CLIENT REPLY OFF\n").fails(2, &["without replies"]);
    server.run_with(&["shell", "--json"], b"SET a 1\nMGET a b\n").gives(0, "\"OK\"\n[\"1\",null]\n");
}

#[test]
fn answers_can_be_json() {
    for face in Face::both() {
        let script = b"put a 1\nget a\nscan\nscan keys\nexists a b\ncount\nttl a\ndelete a\n";
        let row = "{\"key\":\"a\",\"value\":\"1\"}\n";
        face.run_with(&["shell", "--json"], script).gives(
            0,
            format!(
                "{row}{row}{{\"key\":\"a\"}}\n{{\"exists\":1}}\n{{\"count\":1}}\n{{\"ttl_seconds\":null}}\n{{\"deleted\":1}}\n"
            ),
        );
    }
}

#[test]
fn the_help_names_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let run = pugdb_with(dir.path(), &["shell"], b"help\nhelp put\n");
    for name in ["get KEY", "put KEY VALUE", "scan [PREFIX]", "use KEYSPACE", "exit", "ex and px say when"] {
        assert!(run.text().contains(name), "{name} in {run}");
    }
    pugdb_with(dir.path(), &["shell"], b"help nope\n").fails(2, &["no such command"]);
}
