//! What is plain text whatever is sealed, and why; and from whom encryption protects. The same list as in `docs/internals/data-map.md`.

use serde::Serialize;

/// A place where something lies that anybody can read who has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct PlainText {
    pub(super) place: String,
    pub(super) holds: String,
    pub(super) why: String,
}

impl PlainText {
    pub(super) fn new(place: impl Into<String>, holds: impl Into<String>, why: impl Into<String>) -> Self {
        Self { place: place.into(), holds: holds.into(), why: why.into() }
    }
}

/// Where, what it holds, why it is plain: of every database.
const ALWAYS: [[&str; 3]; 13] = [
    [
        "`CURRENT`",
        "which manifest counts",
        "it is read first; a tag that only the database's key makes is in it",
    ],
    ["`LOCK`, `RESERVE`", "the number of a process; zeros", "nothing of yours is in them"],
    [
        "tables and value files of keyspaces that are left plain, or were written before the database was encrypted",
        "keys and values",
        "somebody has asked for it; the list above counts them, and `pugdb key rewrite` seals the second kind",
    ],
    [
        "names of files, lengths, times, ids of keyspaces, positions of pieces",
        "how much there is and when it changed",
        "a file system shows them, and files are found by them",
    ],
    [
        "the key file, in `pugdb/keys` if nobody names another place",
        "the root key; the database's id",
        "somebody has to begin: guard it, and keep it where no copy of the data is",
    ],
    [
        "what is named after a root key in a token or the login keyring",
        "the database's id; the name that was given for it",
        "people and programs find it by them",
    ],
    [
        "the second place of the audit log (`--audit-copy`)",
        "how many records there are, hashes, times",
        "who checks the log later needs no key",
    ],
    ["proofs of the audit log", "one record", "they are made to be shown"],
    ["certificates of erasures", "keyed digests, which name nobody", "they are made to be shown"],
    [
        "exports, dumps of Redis, output of commands",
        "keys and values",
        "other programs read them: encrypt or remove them",
    ],
    [
        "history of the shell",
        "lines that were typed, values too, but for those that begin with a blank",
        "its owner alone can read it",
    ],
    [
        "`pugdb/tls`: `authority.pem`, `server.pem`; what `pugdb tls client` makes",
        "private keys of TLS; no key that opens data",
        "their owner alone can read them",
    ],
    ["`pugdb/tls/ca.pem`", "the certificate of the authority", "clients are given it"],
];

pub(super) fn always() -> Vec<PlainText> {
    ALWAYS.iter().map(|[place, holds, why]| PlainText::new(*place, *holds, *why)).collect()
}

/// Who sees what of an encrypted database: the short form of the table in `docs/guide/privacy.md`.
pub(super) const PROTECTS: [[&str; 2]; 6] = [
    [
        "who has a disk, a backup or a bucket, and not the root key",
        "how many files there are, their lengths and times, the numbers of keyspaces; no key, no value, no name",
    ],
    [
        "who can write the disk, and not the root key",
        "the same; what he changes is an error, an old whole copy is not noticed",
    ],
    ["who has the root key or the key file, and the directory", "everything"],
    ["who has the machine, as the database's user or as root", "everything"],
    ["who listens on the way to a server", "everything without TLS; with it, lengths and times"],
    ["who reads swap or a memory image", "keys and values that were in memory"],
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_places_are_those_of_the_data_map() {
        let map = include_str!("../../../../../docs/internals/data-map.md");
        let (_, disk) = map.split_once("## On disk").unwrap();
        let (disk, _) = disk.split_once("## In memory").unwrap();
        let rows = disk.lines().filter(|line| line.starts_with("| "));
        let plain: BTreeSet<&str> = rows
            .map(|row| row.split(" | ").collect::<Vec<_>>())
            .filter(|cells| cells[2].trim_start_matches('*').starts_with("plain"))
            .map(|cells| cells[0].trim_start_matches("| "))
            .collect();
        let told: BTreeSet<&str> = ALWAYS.iter().map(|row| row[0]).collect();
        assert_eq!(told, plain);
    }
}
