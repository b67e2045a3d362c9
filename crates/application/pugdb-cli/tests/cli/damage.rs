//! `verify`, and reading, on a database with a flipped bit.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::command::{pugdb, pugdb_with};

/// A database with tables, closed in good order.
fn import(dir: &Path) {
    let lines: String = (0..3_000)
        .map(|n| format!("{{\"key\":\"k{n:05}\",\"value\":\"secret{}\"}}\n", "v".repeat(n % 100)))
        .collect();
    // Damage to what is sealed is tested where the seals are.
    pugdb_with(dir, &["import", "jsonl", "-", "--no-encryption"], lines.as_bytes()).gives(0, "");
}

/// Entries that are in the log and not in a table yet.
fn put(dir: &Path) {
    for n in 0..3 {
        pugdb(dir, &["put", &format!("late{n}"), "secret"]).gives(0, "");
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            files.extend(self::files(&entry.path()));
        } else if entry.file_name() != "LOCK" && entry.metadata().unwrap().len() > 0 {
            files.push(entry.path());
        }
    }
    files
}

fn flip(path: &Path, offset: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
}

#[test]
fn a_whole_database_verifies() {
    let dir = tempfile::tempdir().unwrap();
    import(dir.path());
    put(dir.path());
    let run = pugdb(dir.path(), &["verify"]);
    assert!(run.code == 0 && run.text().ends_with("everything is as it was written\n"), "{run}");
    assert!(run.text().contains("3000 entries"), "{run}");
}

#[test]
fn a_flipped_bit_is_found_and_no_wrong_value_is_given() {
    let dir = tempfile::tempdir().unwrap();
    import(dir.path());
    flip_bits_everywhere(dir.path(), 3_000);
    put(dir.path());
    flip_bits_everywhere(dir.path(), 3_003);
}

#[test]
fn verify_does_not_advise_to_run_verify() {
    let dir = tempfile::tempdir().unwrap();
    import(dir.path());
    let tables = files(&dir.path().join("pugdb-data/tables"));
    flip(&tables[0], 200);
    for arguments in [&["verify"][..], &["verify", "--json"]] {
        let run = pugdb(dir.path(), arguments);
        assert!(run.code == 3 && run.text().contains("checksum mismatch"), "{run}");
        assert!(!run.text().contains("mismatch; run `pugdb verify`"), "{run}");
    }
}

fn flip_bits_everywhere(dir: &Path, entries: usize) {
    let data = dir.join("pugdb-data");
    let (copy, again) = (dir.join("copy"), dir.join("again"));
    // Reading opens the database, which may write: always on a copy.
    copy_tree(&data, &again);
    let whole = pugdb(dir, &["scan", "--data", "again"]);
    assert_eq!(whole.text().lines().count(), entries);
    fs::remove_dir_all(&again).unwrap();
    for file in files(&data) {
        let name = file.strip_prefix(&data).unwrap();
        // A log and a manifest are preallocated: what is written ends long before the file does.
        let bytes = crate::directory::read(&file);
        let end = bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1;
        for offset in [0, 20, end / 5, end / 3, end / 2, end - 20, end - 1] {
            let _ = fs::remove_dir_all(&copy);
            copy_tree(&data, &copy);
            flip(&copy.join(name), offset as u64);
            let place = format!("{} at byte {offset} of {end}", name.display());
            let verify = pugdb(dir, &["verify", "--data", "copy"]);
            assert!(
                !verify.stderr.contains("panicked") && !verify.stderr.contains("secret"),
                "{place}: {verify}"
            );
            let scan = pugdb(dir, &["scan", "--data", "copy"]);
            assert!(!scan.stderr.contains("panicked") && !scan.stderr.contains("secret"), "{place}: {scan}");
            let is_same = scan.stdout == whole.stdout && scan.code == 0;
            match verify.code {
                // What is whole may still be read; what is damaged is never given.
                3 => assert!(
                    whole.stdout.starts_with(&scan.stdout) && (is_same || scan.code == 3),
                    "{place}: {scan}"
                ),
                // The last edit of a manifest may be a torn one. It is given up, which is told, and nothing is lost.
                0 => assert!(is_same && verify.text().contains(" was given up"), "{place}: {verify}; {scan}"),
                _ => panic!("{place}: {verify}"),
            }
        }
    }
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
