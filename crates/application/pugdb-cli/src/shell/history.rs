//! Where the history of the shell lies: in the user's state directory, for nobody else to read.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Lines that are kept.
pub(super) const LINES_MAX: usize = 10_000;

/// `$XDG_STATE_HOME/pugdb/history`, or `~/.local/state/pugdb/history`; `None` without a home.
pub(super) fn place() -> Option<PathBuf> {
    let given = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = given("XDG_STATE_HOME").or_else(|| Some(given("HOME")?.join(".local/state")))?;
    Some(state.join("pugdb/history"))
}

/// Makes the file and its directory, if there are none, and takes away the rights of others.
pub(super) fn prepare(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    if file.metadata()?.permissions().mode() & 0o777 != 0o600 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(())
}

/// False for what must not be written down: a line that begins with a blank, and passwords.
pub(super) fn may_be_kept(line: &str) -> bool {
    let has_password = |words: &[&str]| match words {
        [first, ..] if first.eq_ignore_ascii_case("auth") => true,
        [first, rest @ ..] if first.eq_ignore_ascii_case("hello") => {
            rest.iter().any(|word| word.eq_ignore_ascii_case("auth"))
        }
        [first, rest @ ..] if first.eq_ignore_ascii_case("acl") || first.eq_ignore_ascii_case("config") => {
            rest.iter()
                .any(|word| word.eq_ignore_ascii_case("setuser") || word.to_lowercase().contains("pass"))
        }
        _ => false,
    };
    let mut lines = line.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    !line.starts_with(char::is_whitespace) && !line.is_empty() && !lines.any(|words| has_password(&words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/pugdb/history");
        prepare(&path).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        prepare(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn blanks_and_passwords_are_not_kept() {
        for line in ["get a", "put auth x", "HELLO 3", "config get maxmemory"] {
            assert!(may_be_kept(line), "{line}");
        }
        for line in [
            "",
            "  ",
            " put token x",
            "AUTH secret",
            "auth ada secret",
            "HELLO 3 AUTH a b",
            "CONFIG SET requirepass x",
            "ACL SETUSER a >b",
        ] {
            assert!(!may_be_kept(line), "{line}");
        }
    }
}
