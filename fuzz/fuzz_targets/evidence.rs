//! Fuzzes what is shown to others: records of the audit log, trees, checkpoints, proofs, certificates, and lines of users and roles. Hostile bytes are an
//! error, never a panic, and what is read is written again byte for byte.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use pugdb_core::coding::Reader;
use pugdb_core::env::os::OsRandom;
use pugdb_security::Certificate;
use pugdb_security::audit::{
    Checkpoint, ConsistencyProof, Frontier, InclusionProof, RECORD_BYTES_MAX, Record,
};
use pugdb_security::rights::{Authenticator, Rights};

// The first byte chooses who reads the rest.
fuzz_target!(|data: &[u8]| {
    let Some((&mode, data)) = data.split_first() else { return };
    match (mode % 4, std::str::from_utf8(data)) {
        (0, _) => record(data),
        (1, _) => tree(data),
        (2, Ok(text)) => texts(text),
        (2, Err(_)) => {}
        _ => rights(data),
    }
});

fn record(data: &[u8]) {
    let Ok(record) = Record::decode(data) else { return };
    assert!(data.len() <= RECORD_BYTES_MAX);
    assert_eq!(record.encode(), data, "what is hashed has one form");
    let _ = (record.event.action.to_string(), record.event.outcome.to_string());
    let _ = record.event.reason.map(|reason| (reason.to_string(), reason.kind()));
}

/// As the beginning of a segment has it: a size, and a root for each bit of it.
fn tree(data: &[u8]) {
    let mut reader = Reader::new(data);
    let Ok(size) = reader.varint() else { return };
    let roots = std::iter::from_fn(|| reader.array().ok()).collect();
    if let Ok(mut tree) = Frontier::from_parts(size, roots) {
        assert!(tree.size() == size && tree.roots().len() == size.count_ones() as usize);
        let _ = tree.root();
        if size < u64::MAX {
            tree.push([7; 32]);
        }
    }
}

fn texts(text: &str) {
    if let Ok(certificate) = Certificate::parse(text) {
        assert_eq!(certificate.to_string(), text);
    }
    for piece in Checkpoint::split(text) {
        if let Ok(checkpoint) = Checkpoint::parse(piece) {
            assert_eq!(checkpoint.to_string(), piece);
        }
    }
    assert_eq!(Checkpoint::split(text).map(str::len).sum::<usize>(), text.len());
    if let Ok(proof) = InclusionProof::parse(text) {
        // The same but for the names of what was done.
        assert_eq!(InclusionProof::parse(&proof.to_string()).expect("it was a proof"), proof);
    }
    if let Ok(proof) = ConsistencyProof::parse(text) {
        assert_eq!(proof.to_string(), text);
    }
}

fn rights(data: &[u8]) {
    thread_local! {
        static PASSWORDS: Authenticator = Authenticator::new(Arc::new(OsRandom));
    }
    PASSWORDS.with(|passwords| {
        let mut rights = Rights::default();
        if rights.add_written_user(b"ada", data, passwords).is_ok() {
            assert_eq!(rights.user("ada").expect("it was added").to_line(), data);
        }
        if rights.add_written_role(b"reader", data).is_ok() {
            assert_eq!(rights.role("reader").expect("it was added").to_line(), data);
        }
        // No password in the clear is ever read, or each would cost what a login does.
        assert_eq!(passwords.paid(), 0);
    });
}
