//! Is the database encrypted, and who else can read data and key. What needs the key says `privacy report`.

use std::path::Path;

use pugdb::keys::KEYRING;

use super::Finding;
use crate::privacy::custody::Seen;
use crate::root_key::KeyArguments;

pub(super) fn encryption(data: &Path) -> Finding {
    let is_encrypted = data.join(KEYRING).is_file();
    let key_file = KeyArguments::default().key_file(data).ok().flatten().and_then(|path| Seen::at(&path));
    let is_there = is_encrypted || pugdb::inspect::files(data).is_ok();
    judge(is_there.then_some(is_encrypted), Seen::at(data).as_ref(), key_file.as_ref(), data)
}

/// Pure, but for links that are followed. `None`: there is no database yet.
fn judge(is_encrypted: Option<bool>, dir: Option<&Seen>, key_file: Option<&Seen>, data: &Path) -> Finding {
    let check = "encryption";
    match (is_encrypted, key_file) {
        (None, _) => Finding::ok(check, "there is no database yet; `pugdb init` makes an encrypted one"),
        (Some(false), _) if dir.is_some_and(Seen::is_shared) => Finding::warn(
            check,
            "the database is not encrypted, and others than its owner may enter its directory",
            format!("chmod 700 {}, or move it into a database that `pugdb init` makes", data.display()),
        ),
        (Some(false), _) => {
            Finding::ok(check, "none: who has the files, or a copy of them, reads everything")
        }
        (Some(true), Some(file)) if file.is_inside(data) => Finding::warn(
            check,
            "the key file lies inside the data directory: every copy of the data has its key",
            "move it elsewhere, then `pugdb key rotate`",
        ),
        (Some(true), Some(file)) => Finding::ok(
            check,
            format!(
                "yes, with the key file {}: keep copies of it and of {KEYRING} elsewhere",
                file.path.display()
            ),
        ),
        (Some(true), None) => {
            Finding::ok(check, "yes; `pugdb privacy report` with --root-key says where the root key lies")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_plain_database_that_others_reach_and_a_key_among_the_data_are_told() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::File::create(dir.path().join("root.key")).unwrap();
        let seen = |mode| Seen { path: dir.path().to_owned(), mode };
        let plain = |mode| judge(Some(false), Some(&seen(mode)), None, dir.path()).verdict;
        assert_eq!((plain(0o700), plain(0o755), plain(0o770)), (Verdict::Ok, Verdict::Warn, Verdict::Warn));
        let inside = Seen::at(&dir.path().join("root.key")).unwrap();
        let outside = Seen::at(Path::new("/")).unwrap();
        let sealed = |file| judge(Some(true), Some(&seen(0o755)), file, dir.path()).verdict;
        assert_eq!((sealed(Some(&inside)), sealed(Some(&outside))), (Verdict::Warn, Verdict::Ok));
        assert_eq!(sealed(None), Verdict::Ok);
        assert_eq!(judge(None, None, None, dir.path()).verdict, Verdict::Ok);
    }
}
