//! `--root-key`, `--keyring` and `key`: an encrypted database on the command line.

use std::fs;
use std::path::Path;

use crate::command::{pugdb, run};
use crate::directory::read;
use crate::server::{Running, program};

const FILE: &str = "file:keys/orders.key";

fn with_key(dir: &Path, arguments: &[&str]) -> crate::command::Run {
    pugdb(dir, &[arguments, &["--root-key", FILE]].concat())
}

fn made(dir: &Path) {
    with_key(dir, &["put", "ada", "the secret of 1815"]).gives(0, "");
}

#[test]
fn an_encrypted_database_opens_with_its_root_key_and_says_so_without() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path());
    with_key(dir.path(), &["get", "ada"]).gives(0, "the secret of 1815");
    with_key(dir.path(), &["scan", "--read-only"]).gives(0, "ada\tthe secret of 1815\n");
    pugdb(dir.path(), &["get", "ada"]).fails(4, &["is encrypted", "--root-key", "file:PATH"]);
    pugdb(dir.path(), &["get", "ada", "--root-key", "file:other.key"])
        .fails(1, &["the key file other.key is not there"]);
    let mut command = program();
    command.current_dir(dir.path()).args(["get", "ada"]).env("PUGDB_ROOT_KEY", FILE);
    run(command, b"").gives(0, "the secret of 1815");
    for file in fs::read_dir(dir.path().join("pugdb-data/log")).unwrap() {
        let bytes = read(&file.unwrap().path());
        assert!(!bytes.windows(6).any(|window| window == b"secret"));
    }
}

#[test]
fn a_root_key_of_the_environment_is_taken_from_its_variable_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let key = "0123456789abcdef".repeat(4);
    let with = |key: &str, arguments: &[&str]| {
        let mut command = program();
        command.current_dir(dir.path()).args(arguments).env("ORDERS_KEY", key);
        run(command, b"")
    };
    with(&key, &["put", "a", "1", "--root-key", "env:ORDERS_KEY"]).gives(0, "");
    with(&key, &["get", "a", "--root-key", "env:ORDERS_KEY"]).gives(0, "1");
    let wrong = with(&"ab".repeat(32), &["get", "a", "--root-key", "env:ORDERS_KEY"]);
    wrong.fails(4, &["wrong key", "ORDERS_KEY"]);
    let bad = with("abcdabcd", &["get", "a", "--root-key", "env:ORDERS_KEY"]);
    assert!(!bad.stderr.contains("abcd"), "{}", bad.stderr);
    bad.fails(2, &["64 hexadecimal digits"]);
    pugdb(dir.path(), &["get", "a", "--root-key", "env:NOT_SET"]).fails(1, &["NOT_SET is not set"]);
    pugdb(dir.path(), &["get", "a", "--root-key", "orders.key"]).fails(2, &["file:PATH"]);
}

#[test]
fn a_root_key_comes_from_a_passphrase_or_a_command_and_the_wrong_kind_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| crate::directory::write(&dir.path().join(name), text.as_bytes());
    file("words", "correct horse battery staple\n");
    file("others", "incorrect horse battery staple\n");
    file("short", "horse\n");
    let as_words =
        |words: &str, arguments: &[&str]| pugdb(dir.path(), &[arguments, &["--root-key", words]].concat());
    as_words("passphrase:file:short", &["init"]).fails(2, &["12 characters"]);
    as_words("passphrase", &["init"]).fails(2, &["no terminal", "passphrase:file:PATH"]);
    assert!(!dir.path().join("pugdb-data/KEYRING").exists(), "nothing was made");
    let made = as_words("passphrase:file:words", &["init"]);
    assert!(made.code == 0 && made.text().contains("a passphrase that somebody knows"), "{made}");
    as_words("passphrase:file:words", &["put", "a", "1"]).gives(0, "");
    as_words("passphrase:file:words", &["get", "a"]).gives(0, "1");
    as_words("passphrase:file:others", &["get", "a"]).fails(4, &["not the passphrase"]);
    as_words("command:printf %064d 7", &["get", "a"]).fails(4, &["sealed with a passphrase"]);
    let rotated = as_words("passphrase:file:words", &["key", "rotate"]);
    assert!(rotated.code == 0 && !rotated.text().contains("is gone"), "{rotated}");

    let by_command = |arguments: &[&str]| {
        pugdb(dir.path(), &[arguments, &["--data", "other", "--root-key", "command:printf %064d 7"]].concat())
    };
    by_command(&["put", "a", "2"]).gives(0, "");
    by_command(&["get", "a"]).gives(0, "2");
    let failing = |command: &str| pugdb(dir.path(), &["get", "a", "--data", "other", "--root-key", command]);
    failing("command:printf %064d 8").fails(4, &["wrong key"]);
    failing("command:echo 0123abcd").fails(2, &["print 64 hexadecimal digits"]);
    failing("command:false").fails(4, &["has failed"]);
    failing("command:no-such-program-here").fails(4, &["cannot be run"]);
    failing("passphrase:env:NOT_SET").fails(1, &["NOT_SET is not set"]);
}

#[test]
fn keys_are_shown_rotated_and_renewed_without_a_byte_of_them() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path());
    let key = || fs::read_to_string(dir.path().join("keys/orders.key")).unwrap();
    let digits = |text: &str| {
        text.lines().find(|line| line.starts_with("key ")).unwrap().split(' ').nth(2).unwrap().to_owned()
    };
    let old = digits(&key());
    let status = with_key(dir.path(), &["key", "status"]);
    let text = status.text().to_owned();
    let parts = ["new files are sealed with ", "the key file keys/orders.key", "keyspace db0  1"];
    assert!(parts.iter().all(|part| text.contains(part)), "{status}");
    assert!(!text.contains(&old[..8]));

    let rotated = with_key(dir.path(), &["key", "rotate"]);
    let parts =
        ["keyring of generation 2, ", " written, no data", "the old root key is gone from the key file"];
    assert!(rotated.code == 0 && parts.iter().all(|part| rotated.text().contains(part)), "{rotated}");
    assert!(digits(&key()) != old && !key().contains(&old));
    let renewed = with_key(dir.path(), &["key", "renew", "--json"]);
    let parts = ["\"keyring_generation\":3", "\"old_root_key_destroyed\":true"];
    assert!(renewed.code == 0 && parts.iter().all(|part| renewed.text().contains(part)), "{renewed}");
    with_key(dir.path(), &["get", "ada"]).gives(0, "the secret of 1815");
    let plain = tempfile::tempdir().unwrap();
    pugdb(plain.path(), &["put", "a", "1", "--no-encryption"]).gives(0, "");
    pugdb(plain.path(), &["key", "status"]).fails(2, &["the database is not encrypted"]);
    with_key(plain.path(), &["get", "a"]).fails(1, &["has no keyring", "opens without a root key"]);
}

#[test]
fn a_checkpoint_says_which_keyring_it_needs_and_opens_with_it() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path());
    let made = with_key(dir.path(), &["checkpoint", "copy"]);
    assert!(made.stderr.contains("--keyring ./pugdb-data/KEYRING"), "{}", made.stderr);
    assert_eq!(made.code, 0);
    with_key(dir.path(), &["get", "ada", "--data", "copy"]).fails(1, &["has no keyring", "--keyring"]);
    pugdb(dir.path(), &["get", "ada", "--data", "copy"])
        .fails(4, &["the database in copy is encrypted", "--root-key", "--keyring"]);
    let keyring = ["get", "ada", "--data", "copy", "--keyring", "pugdb-data/KEYRING"];
    with_key(dir.path(), &keyring).gives(0, "the secret of 1815");
    let verified = with_key(dir.path(), &["verify", "--data", "copy", "--keyring", "pugdb-data/KEYRING"]);
    assert_eq!(verified.code, 0, "{verified}");
}

#[test]
fn files_are_inspected_with_the_root_key_and_not_without() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path());
    pugdb(dir.path(), &["inspect"]).fails(4, &["the file is encrypted"]);
    let seen = with_key(dir.path(), &["inspect", "manifest", "--show-keys"]);
    assert!(String::from_utf8_lossy(&seen.stdout).contains("db0"), "{seen}");
    assert_eq!(seen.code, 0);
}

#[test]
fn a_server_serves_an_encrypted_database() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let key = format!("file:{}", dir.path().join("served.key").display());
    let server = Running::start(&data, &["--root-key", &key, "--no-http"]);
    let url = format!("redis://{}", server.address);
    pugdb(dir.path(), &["put", "ada", "the secret of 1815", "--url", &url]).gives(0, "");
    server.kill();
    let server = Running::start(&data, &["--root-key", &key, "--no-http"]);
    let url = format!("redis://{}", server.address);
    pugdb(dir.path(), &["get", "ada", "--url", &url]).gives(0, "the secret of 1815");
    drop(server);
    let refused =
        pugdb(dir.path(), &["serve", "--data", data.to_str().unwrap(), "--resp", "127.0.0.1:0", "--no-http"]);
    refused.fails(4, &["is encrypted", "--root-key"]);
}

/// A real token and a real keyring are in `tests/clients/root_keys.sh`: here is what every machine lacks.
#[test]
fn a_token_or_a_login_keyring_that_is_not_there_is_told_and_nothing_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let init = |root_key: &str| {
        let mut command = program();
        command.current_dir(dir.path()).args(["init", "--root-key", root_key]);
        command.env_remove("DBUS_SESSION_BUS_ADDRESS").env_remove("XDG_RUNTIME_DIR");
        run(command, b"")
    };
    init("keyring").fails(4, &["no D-Bus of a session can be reached", "take another root key"]);
    init("keyring:").fails(2, &["1 to 128 bytes"]);
    init("pkcs11:token=a?module-path=/nowhere.so").fails(1, &["no library /nowhere.so", "module-path"]);
    init("pkcs11:object=a?module-path=/nowhere.so").fails(2, &["names no token", "token=LABEL"]);
    // Not even by the error.
    let shown = init("pkcs11:token=a?module-path=/nowhere.so&pin-value=493817");
    assert!(!shown.to_string().contains("493817"), "{shown}");
    shown.fails(2, &["pin-value is not taken", "pin-source=file:PATH"]);
    assert!(!dir.path().join("pugdb-data/KEYRING").exists());
}

/// As a user with a home of his own, and nothing else.
fn at_home(dir: &Path, home: &Path, arguments: &[&str]) -> crate::command::Run {
    let mut command = program();
    command.current_dir(dir).args(arguments).env("HOME", home).env_remove("XDG_CONFIG_HOME");
    run(command, b"")
}

#[test]
fn init_makes_an_encrypted_database_whose_key_every_command_finds() {
    let (dir, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let run = |arguments: &[&str]| at_home(dir.path(), home.path(), arguments);
    let made = run(&["init"]);
    assert!(made.code == 0 && made.text().contains(".config/pugdb/keys/"), "{made}");
    assert!(made.text().contains("keep copies of the key"), "{made}");
    run(&["put", "ada", "1815"]).gives(0, "");
    run(&["get", "ada"]).gives(0, "1815");
    assert_eq!(run(&["key", "rotate"]).code, 0);
    assert_eq!(run(&["inspect"]).code, 0);
    run(&["get", "ada"]).gives(0, "1815");
    run(&["init"]).fails(4, &["there is a database in ./pugdb-data already"]);
    // Another user has no key.
    let other = tempfile::tempdir().unwrap();
    at_home(dir.path(), other.path(), &["get", "ada"]).fails(4, &["is encrypted", "--root-key"]);
    let keys: Vec<_> = fs::read_dir(home.path().join(".config/pugdb/keys")).unwrap().collect();
    assert_eq!(keys.len(), 1);
}

#[test]
fn init_without_encryption_or_with_a_named_key_does_as_it_is_told() {
    let (dir, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let run = |arguments: &[&str]| at_home(dir.path(), home.path(), arguments);
    run(&["init", "--data", "plain", "--no-encryption"])
        .gives(0, "a database was made in plain; it is not encrypted\n");
    run(&["put", "a", "1", "--data", "plain"]).gives(0, "");
    run(&["key", "status", "--data", "plain"]).fails(2, &["is not encrypted"]);
    let made = run(&["init", "--data", "named", "--root-key", FILE, "--json"]);
    assert!(made.code == 0 && made.text().contains("\"encrypted\":true"), "{made}");
    run(&["put", "a", "1", "--data", "named", "--root-key", FILE]).gives(0, "");
    run(&["init", "--root-key", FILE, "--no-encryption"]).fails(2, &["--no-encryption"]);
    // A database's key file is no other database's.
    run(&["init", "--data", "second", "--root-key", FILE]).fails(4, &["is of another database"]);
    assert!(!home.path().join(".config").exists());
    let mut command = program();
    command
        .current_dir(dir.path())
        .args(["init", "--data", "homeless"])
        .env_remove("HOME")
        .env_remove("XDG_CONFIG_HOME");
    crate::command::run(command, b"").fails(2, &["--root-key", "--no-encryption"]);
}

/// Whether the log of the database in `data` shows what was put there.
fn shows_the_secret(data: &Path) -> bool {
    let mut logs = fs::read_dir(data.join("log")).unwrap();
    logs.any(|file| read(&file.unwrap().path()).windows(6).any(|window| window == b"secret"))
}

#[test]
fn every_command_that_makes_a_database_encrypts_it_and_says_where_the_key_is() {
    let (dir, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let run = |data: &str, arguments: &[&str]| {
        at_home(dir.path(), home.path(), &[arguments, &["--data", data]].concat())
    };
    crate::directory::write(&dir.path().join("rows.jsonl"), b"{\"key\":\"ada\",\"value\":\"the secret\"}\n");
    let making: [(&str, &[&str]); 4] = [
        ("put", &["put", "ada", "the secret"]),
        ("imported", &["import", "jsonl", "rows.jsonl"]),
        ("typed", &["shell"]),
        ("kept", &["keyspace", "create", "db0"]),
    ];
    let keys = || fs::read_dir(home.path().join(".config/pugdb/keys")).unwrap().count();
    for (number, (data, arguments)) in making.into_iter().enumerate() {
        let made = run(data, arguments);
        assert_eq!(made.code, 0, "{made}");
        for part in ["an encrypted database was made in ", ".config/pugdb/keys/", "keep copies of the key"] {
            assert!(made.stderr.contains(part), "{part:?} is missing: {made}");
        }
        assert_eq!(keys(), number + 1);
        assert!(dir.path().join(data).join("audit").is_dir(), "{data} has no audit log");
        let again = run(data, &["put", "ada", "the secret"]);
        assert!(again.code == 0 && again.stderr.is_empty(), "{again}");
        run(data, &["get", "ada"]).gives(0, "the secret");
        assert!(!shows_the_secret(&dir.path().join(data)), "{data} is in plain text");
    }
    let plain = run("plain", &["put", "ada", "the secret", "--no-encryption"]);
    assert!(plain.stderr.contains("it is not encrypted"), "{plain}");
    assert!(shows_the_secret(&dir.path().join("plain")) && keys() == 4);
    // What there is stays as it is.
    run("put", &["put", "ada", "the secret", "--no-encryption"]).gives(0, "");
    assert!(!shows_the_secret(&dir.path().join("put")));
    // Reading makes nothing.
    run("nowhere", &["get", "ada"]).fails(1, &["there is no database"]);
    run("nowhere", &["put", "ada", "1", "--read-only"]).fails(1, &["there is no database"]);
    assert!(!dir.path().join("nowhere").exists() && keys() == 4);
}

/// A server without a user's directory, or with another one.
fn served(data: &Path, home: Option<&Path>, more: &[&str]) -> std::process::Command {
    let mut command = program();
    command.args(["serve", "--no-http", "--resp", "127.0.0.1:0", "--data"]).arg(data).args(more);
    command.env_remove("XDG_CONFIG_HOME").env_remove("HOME");
    if let Some(home) = home {
        command.env("HOME", home);
    }
    command
}

#[test]
fn the_first_serve_makes_an_encrypted_database_and_says_where_its_key_is() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Running::start(&data, &["--no-http"]);
    for part in ["an encrypted database was made in ", "/config/pugdb/keys/", "keep copies of the key"] {
        assert!(server.greeting.contains(part), "{part:?} is missing: {}", server.greeting);
    }
    let url = format!("redis://{}", server.address);
    pugdb(dir.path(), &["put", "ada", "the secret of 1815", "--url", &url]).gives(0, "");
    server.kill();
    assert!(!shows_the_secret(&data) && data.join("audit").is_dir());
    let server = Running::start(&data, &["--no-http"]);
    assert!(!server.greeting.contains("was made"), "{}", server.greeting);
    drop(server);
    pugdb(dir.path(), &["get", "ada", "--data", data.to_str().unwrap()]).gives(0, "the secret of 1815");

    let plain = dir.path().join("plain");
    let server = Running::start(&plain, &["--no-http", "--no-encryption"]);
    assert!(server.greeting.contains("it is not encrypted"), "{}", server.greeting);
    assert!(!plain.join("KEYRING").exists() && !plain.join("audit").exists());
}

#[test]
fn where_no_key_file_can_be_made_nothing_is_made_and_the_advice_is_what_to_give() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    run(served(&data, None, &[]), b"").fails(2, &["no home directory", "--root-key", "--no-encryption"]);
    assert!(!data.exists());
    // A home that is none.
    let file = dir.path().join("file");
    crate::directory::write(&file, b"");
    let refused = run(served(&data, Some(&file), &[]), b"");
    assert!(refused.code != 0, "{refused}");
    assert!(refused.stderr.contains("--root-key, or say --no-encryption"), "{refused}");
    assert!(!data.join("KEYRING").exists());
    let mut put = program();
    put.current_dir(dir.path()).args(["put", "a", "1"]).env_remove("XDG_CONFIG_HOME").env_remove("HOME");
    run(put, b"").fails(2, &["no home directory", "--root-key", "--no-encryption"]);
}

#[test]
fn of_a_root_key_and_no_encryption_the_one_that_is_meant_more_strongly_counts() {
    let dir = tempfile::tempdir().unwrap();
    let with = |data: &str, arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = program();
        command.current_dir(dir.path()).args(arguments).args(["--data", data]);
        command.envs(variables.iter().copied());
        let made = run(command, b"");
        assert_eq!(made.code, 0, "{made}");
        dir.path().join(data).join("KEYRING").exists()
    };
    let (plain, key) = (("PUGDB_NO_ENCRYPTION", "true"), ("PUGDB_ROOT_KEY", "file:of-the-environment.key"));
    let put = ["put", "a", "1"];
    assert!(!with("one", &put, &[plain]));
    assert!(with("two", &put, &[plain, key]));
    assert!(with("three", &["put", "a", "1", "--root-key", "file:named.key"], &[plain]));
    assert!(!with("four", &["put", "a", "1", "--no-encryption"], &[key]));
    assert!(with("five", &["init", "--root-key", "file:made.key"], &[plain]));
    pugdb(dir.path(), &["put", "a", "1", "--no-encryption", "--root-key", "file:x"])
        .fails(2, &["--no-encryption", "--root-key"]);
}
