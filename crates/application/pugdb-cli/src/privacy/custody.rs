//! Where keys and data lie, and who else can read that: looked at on the disk, for the report and for `doctor`.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What the disk says of a file or directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) path: PathBuf,
    /// The nine bits of its rights.
    pub(crate) mode: u32,
}

impl Seen {
    /// `None` when it is not there.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        let metadata = path.metadata().ok()?;
        Some(Self { path: path.to_owned(), mode: metadata.mode() & 0o777 })
    }

    /// True when others than its owner have any right.
    pub(crate) fn is_shared(&self) -> bool {
        self.mode & 0o077 != 0
    }

    /// True when it lies in this directory, whatever links lead there. Copies of the directory have it then.
    pub(crate) fn is_inside(&self, dir: &Path) -> bool {
        match (self.path.canonicalize(), dir.canonicalize()) {
            (Ok(path), Ok(dir)) => path.starts_with(dir),
            _ => false,
        }
    }

    pub(crate) fn rights(&self) -> String {
        let who = if self.is_shared() { "others than its owner have rights" } else { "its owner alone" };
        format!("{:04o}, {who}", self.mode)
    }
}

/// The names in a data directory that are not PugDB's: they are copied with it, and nothing of them is sealed.
pub(crate) fn strangers(data: &Path) -> Vec<String> {
    const OURS: [&str; 8] = ["CURRENT", "LOCK", "RESERVE", "KEYRING", "log", "tables", "audit", "readers"];
    let Ok(entries) = std::fs::read_dir(data) else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let is_ours = |name: &str| {
        OURS.iter()
            .any(|ours| name == *ours || name.strip_prefix(ours).is_some_and(|rest| rest.starts_with('.')))
            || name.starts_with("manifest-")
    };
    let mut strangers: Vec<String> = names.filter(|name| !is_ours(name)).collect();
    strangers.sort_unstable();
    strangers
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn rights_place_and_strangers_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        for folder in ["data/log", "keys"] {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        let key = data.join("root.key");
        std::fs::File::create(&key).unwrap();
        for (mode, is_shared) in [(0o600, false), (0o640, true), (0o604, true)] {
            std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
            let seen = Seen::at(&key).unwrap();
            assert!(seen.is_shared() == is_shared && seen.mode == mode, "{mode:o}");
        }
        let link = dir.path().join("keys/link");
        symlink(&key, &link).unwrap();
        assert!(Seen::at(&link).unwrap().is_inside(&data));
        assert!(!Seen::at(&dir.path().join("keys")).unwrap().is_inside(&data));
        assert_eq!(Seen::at(&dir.path().join("nothing")), None);
        std::fs::File::create(data.join("CURRENT")).unwrap();
        std::fs::File::create(data.join("CURRENT.new")).unwrap();
        assert_eq!(strangers(&data), ["root.key"]);
    }
}
