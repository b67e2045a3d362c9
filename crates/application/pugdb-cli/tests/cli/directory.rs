//! `import dir` and `export dir`: what goes in comes out, and nothing is written where it should not be.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{CWD, FileType, mknodat};

use crate::command::{pugdb, pugdb_with};

pub(crate) fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    #[expect(clippy::disallowed_methods, reason = "the user's files, not the database's")]
    fs::write(path, bytes).unwrap();
}

pub(crate) fn read(path: &Path) -> Vec<u8> {
    #[expect(clippy::disallowed_methods, reason = "the user's files, not the database's")]
    fs::read(path).unwrap()
}

fn fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, 0o600.into(), 0).unwrap();
}

/// Every regular file below a directory, by path.
fn files(root: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                let key = entry.path().strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
                files.insert(key, read(&entry.path()));
            }
        }
    }
    files
}

#[test]
fn a_tree_with_nasty_names_comes_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    let all_bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let deep = format!("{}end", "d/".repeat(300));
    let long = "n".repeat(255);
    let names: [&[u8]; 12] = [
        b"plain",
        b"with space/and\nnewline\tand tab",
        b"\xff\xfe not UTF-8/\x80",
        "größe/東京/🐶".as_bytes(),
        deep.as_bytes(),
        long.as_bytes(),
        b"-dash",
        b"@at",
        b"back\\slash",
        b"...",
        b"a!b",
        b"a/b",
    ];
    for (number, name) in names.iter().enumerate() {
        write(&tree.join(OsStr::from_bytes(name)), &all_bytes[number..number * 7_000 + number]);
    }
    write(&tree.join("empty file"), b"");
    let mut random = fastrand::Rng::with_seed(5);
    for number in 0..300 {
        let content: Vec<u8> = (0..random.usize(..20_000)).map(|_| random.u8(..)).collect();
        write(&tree.join(format!("random/{}/{number}", number % 7)), &content);
    }
    fs::create_dir(tree.join("empty folder")).unwrap();
    symlink("plain", tree.join("link")).unwrap();
    symlink("/etc", tree.join("random/etc")).unwrap();
    symlink(".", tree.join("random/loop")).unwrap();
    fifo(&tree.join("pipe"));

    let import = pugdb(dir.path(), &["import", "dir", "tree", "--keyspace", "tree"]).gives(0, "");
    for line in [
        "skipped: link: a link\n",
        "skipped: random/etc: a link\n",
        "skipped: random/loop: a link\n",
        "skipped: pipe: a named pipe\n",
        "imported 313 entries, ",
        "; skipped 4 that are no regular files\n",
    ] {
        assert!(import.stderr.contains(line), "{line} is missing: {import}");
    }
    pugdb(dir.path(), &["get", "--keyspace", "tree", "-e", r"\xff\xfe not UTF-8/\x80"])
        .gives(0, &all_bytes[2..14_002]);

    let export = pugdb(dir.path(), &["export", "dir", "new/out", "--keyspace", "tree"]).gives(0, "");
    assert!(export.stderr.contains("exported 313 entries, "), "{export}");
    assert_eq!(files(&tree).len(), 313);
    assert!(files(&tree) == files(&dir.path().join("new/out")), "paths or contents differ");
    let verify = pugdb(dir.path(), &["verify"]);
    assert_eq!(verify.code, 0, "{verify}");
}

#[test]
fn a_new_import_replaces_and_keeps_what_is_not_in_the_tree() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("one/a"), b"1");
    write(&dir.path().join("one/b"), b"2");
    write(&dir.path().join("two/b"), b"3");
    for tree in ["one", "two"] {
        pugdb(dir.path(), &["import", "dir", tree]).gives(0, "");
    }
    pugdb(dir.path(), &["scan"]).gives(0, "a\t1\nb\t3\n");
}

#[test]
fn a_file_over_the_limit_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("tree/large"), &vec![1; 300 << 10]);
    write(&dir.path().join("tree/nearly"), &vec![2; 250 << 10]);
    write(&dir.path().join("tree/small"), b"3");
    let import = pugdb(dir.path(), &["import", "dir", "tree", "--memory", "1MiB"]);
    import.fails(
        3,
        &[
            "left out: large: a value has at most 261888 bytes with this --memory",
            "imported 2 entries",
            "left out 1\n",
        ],
    );
    pugdb(dir.path(), &["scan", "--keys-only"]).gives(0, "nearly\nsmall\n");
    pugdb(dir.path(), &["import", "dir", "tree"]).gives(0, "");
    pugdb(dir.path(), &["get", "large"]).gives(0, vec![1; 300 << 10]);
}

#[test]
fn a_wrong_source_makes_no_database() {
    let dir = tempfile::tempdir().unwrap();
    pugdb(dir.path(), &["import", "dir", "nowhere"]).fails(2, &["nowhere"]);
    pugdb(dir.path(), &["import", "jsonl", "nowhere"]).fails(2, &["nowhere"]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    write(&dir.path().join("file"), b"");
    pugdb(dir.path(), &["import", "dir", "file"]).fails(2, &["no directory"]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn the_database_does_not_import_or_overwrite_itself() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("a/file"), b"1");
    // The tree holds the database's own directory, even by another name.
    symlink("pugdb-data", dir.path().join("alias")).unwrap();
    let import = pugdb(dir.path(), &["import", "dir", "."]).gives(0, "");
    assert!(import.stderr.contains("skipped: pugdb-data: the database itself"), "{import}");
    pugdb(dir.path(), &["scan"]).gives(0, "a/file\t1\n");
    for path in ["pugdb-data", "pugdb-data/new/folder", "alias", "alias/new"] {
        pugdb(dir.path(), &["export", "dir", path]).fails(2, &["the database's own directory"]);
    }
    pugdb(dir.path(), &["import", "dir", "pugdb-data"]).fails(2, &["the database's own directory"]);
    let verify = pugdb(dir.path(), &["verify"]);
    assert_eq!(verify.code, 0, "{verify}");
}

#[test]
fn hostile_keys_are_not_exported() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("deep/target");
    let outside = dir.path().join("outside");
    let absolute = format!("{}/absolute", dir.path().display());
    let hostile = [
        "",
        "/",
        "../up",
        "../../outside",
        "a/../../../up",
        "..",
        ".",
        "./dot",
        "x/.",
        "x/..",
        "double//slash",
        "end/",
        "nul\\u0000",
        "both",
        "both/file/more",
        &absolute,
        &"n".repeat(256),
    ];
    let good = ["both/file", "both/file/more/x", "fine", "x/y", "...", "a!"];
    let lines: String =
        hostile.iter().chain(&good).map(|key| format!("{{\"key\":\"{key}\",\"value\":\"v\"}}\n")).collect();
    pugdb_with(dir.path(), &["import", "jsonl", "-"], lines.as_bytes()).gives(0, "");

    let export = pugdb(dir.path(), &["export", "dir", "deep/target"]);
    // `both/file` has to be a folder as well: of a file and what lies in it, what lies in it is kept.
    let written = ["both/file/more/x", "fine", "x/y", "...", "a!"];
    let left_out = hostile.len() + good.len() - written.len();
    let export = export.fails(
        3,
        &[
            "left out: ../up: a part of the path is . or ..\n",
            "left out: /: the path is absolute\n",
            "left out: double//slash: a part of the path is empty\n",
            "left out: nul\\x00: NUL cannot be in a path\n",
            "left out: both: a folder has this name",
            "left out: both/file: a folder has this name",
            "too long for the file system\n",
            &format!("exported {} entries, ", written.len()),
            &format!("; left out {left_out}\n"),
        ],
    );
    assert_eq!(
        export.stderr.lines().filter(|line| line.starts_with("left out: ")).count(),
        left_out,
        "{export}"
    );
    let keys: Vec<Vec<u8>> = files(&target).into_keys().collect();
    let mut expected: Vec<Vec<u8>> = written.iter().map(|key| key.as_bytes().to_vec()).collect();
    expected.sort();
    assert_eq!(keys, expected);
    assert!(!outside.exists() && !dir.path().join("up").exists() && !dir.path().join("deep/up").exists());
    assert!(!Path::new(&absolute).exists());
}

#[test]
fn files_and_links_in_the_target_are_respected() {
    let dir = tempfile::tempdir().unwrap();
    let (target, outside) = (dir.path().join("target"), dir.path().join("outside"));
    write(&outside.join("kept"), b"kept");
    write(&target.join("there"), b"old");
    symlink(&outside, target.join("folder")).unwrap();
    symlink(outside.join("kept"), target.join("file")).unwrap();
    fs::hard_link(outside.join("kept"), target.join("hard")).unwrap();
    for key in ["there", "folder/escaped", "file", "hard", "new"] {
        pugdb(dir.path(), &["put", key, "new"]).gives(0, "");
    }
    let export = pugdb(dir.path(), &["export", "dir", "target"]);
    export.fails(
        3,
        &["exported 1 entry", "left out 4", "there: the file is there already; --force replaces it"],
    );
    assert_eq!((read(&target.join("there")), read(&target.join("new"))), (b"old".to_vec(), b"new".to_vec()));

    let export = pugdb(dir.path(), &["export", "dir", "target", "--force"]);
    export.fails(
        3,
        &["exported 3 entries", "left out 2", "folder/escaped: a file or a link stands", "file: a link"],
    );
    assert_eq!((read(&target.join("there")), read(&target.join("hard"))), (b"new".to_vec(), b"new".to_vec()));
    assert_eq!(files(&outside), BTreeMap::from([(b"kept".to_vec(), b"kept".to_vec())]));
}

#[test]
fn a_list_of_what_is_left_out_has_an_end() {
    let dir = tempfile::tempdir().unwrap();
    let lines: String = (0..1_500).map(|n| format!("{{\"key\":\"/{n}\",\"value\":\"\"}}\n")).collect();
    pugdb_with(dir.path(), &["import", "jsonl", "-"], lines.as_bytes()).gives(0, "");
    let export =
        pugdb(dir.path(), &["export", "dir", "out"]).fails(3, &["\nand 500 more\n", "left out 1500\n"]);
    assert_eq!(export.stderr.lines().count(), 1_002);
}
