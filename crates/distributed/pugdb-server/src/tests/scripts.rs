//! Scripts of requests and replies, in `scripts/`. `UPDATE_EXPECT=1 cargo test -p pugdb-server` rewrites the replies.
//!
//! A line with `> ` is a request, in the words and quotes of an inline command; the line below is the reply. A reply
//! line with `~ ` is a pattern, for what differs from run to run. `! advance 1000` lets a second pass. `! new` opens
//! another connection and goes on with that. Every script runs on a database in memory and on one on disk.

use std::fmt::Write;
use std::path::Path;

use bytes::BytesMut;
use pugdb::glob;
use pugdb_wire::resp::{Limits, RequestDecoder};

use super::harness::{Running, request};

macro_rules! scripts {
    ($($test:ident)*) => {$(
        #[test]
        fn $test() {
            check(stringify!($test), include_str!(concat!("scripts/", stringify!($test), ".txt")));
        }
    )*};
}

scripts! {
    acl auth bits client command config connection dump errors expiry info keys keys_more latency numbers resp3 rights scan server slowlog
    strings strings_more transactions
}

fn check(name: &str, script: &str) {
    for server in [Running::in_memory(), Running::on_disk()] {
        let answered = play(&server, script);
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/tests/scripts/{name}.txt"));
            #[expect(clippy::disallowed_methods, reason = "rewrites a source file on demand")]
            std::fs::write(path, answered).unwrap();
            return;
        }
        assert_eq!(answered, script, "the replies of {name}.txt differ, on {:?}", server.db);
    }
}

/// The script with the replies that the server gave.
fn play(server: &Running, script: &str) -> String {
    let mut client = server.connect();
    let mut answered = String::new();
    let mut lines = script.lines().peekable();
    while let Some(line) = lines.next() {
        writeln!(answered, "{line}").unwrap();
        if let Some(command) = line.strip_prefix("> ") {
            client.send(request(&words(command)));
            let reply = client.text();
            let is_answer = |next: &&str| !next.is_empty() && !next.starts_with(['>', '!', '#']);
            let expected = lines.next_if(is_answer).unwrap_or_default();
            let fits = expected
                .strip_prefix("~ ")
                .is_some_and(|pattern| glob::matches(pattern.as_bytes(), reply.as_bytes()));
            writeln!(answered, "{}", if fits { expected } else { &reply }).unwrap();
        } else if let Some(milliseconds) = line.strip_prefix("! advance ") {
            server.world.clock.advance(milliseconds.parse().unwrap());
        } else if line == "! new" {
            client = server.connect();
        }
    }
    answered
}

fn words(command: &str) -> Vec<bytes::Bytes> {
    let mut line = BytesMut::from(format!("{command}\n").as_bytes());
    RequestDecoder::new(Limits::default()).decode(&mut line).unwrap().unwrap().into_arguments()
}
