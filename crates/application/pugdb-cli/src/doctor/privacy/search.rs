//! Looks for all secrets at once, in every spelling, in any number of bytes. Step 3.
//!
//! Each spelling is found by its first eight bytes: a filter of bits says of most places that none begins there, a map says which may,
//! and those are compared in full.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use pugdb::env::{Access, FileSystem};

use crate::outcome::Failure;
use crate::text::{base64, hex};

const WINDOW: usize = 8;
const FILTER_BITS: u32 = 22;
const READ_BYTES: usize = 1 << 20;

pub(super) struct Search {
    filter: Vec<u64>,
    /// By their first eight bytes: the whole spelling, and whose it is.
    spellings: HashMap<u64, Vec<(Vec<u8>, usize)>>,
    longest: usize,
}

/// What was found in files of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Searched {
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// The numbers of the secrets.
    pub(super) found: BTreeSet<usize>,
}

/// How a secret may be spelled: both ends of it as they are, since of a key the beginning may be left out, the whole in hexadecimal digits, and
/// in base64 wherever it begins.
pub(super) fn spellings(secret: &str) -> Vec<Vec<u8>> {
    let bytes = secret.as_bytes();
    let digits = hex(bytes);
    let mut all = vec![
        bytes[..WINDOW].to_vec(),
        bytes[bytes.len() - WINDOW..].to_vec(),
        digits.to_uppercase().into_bytes(),
        digits.into_bytes(),
    ];
    for shift in 0..3 {
        let encoded = base64(&[&[0; 2][..shift], bytes].concat());
        // Of what is at the edges the neighbours decide.
        let whole = (shift * 4).div_ceil(3)..(shift + bytes.len()) * 4 / 3;
        all.push(encoded.as_bytes()[whole].to_vec());
    }
    all
}

impl Search {
    pub(super) fn new(secrets: &[String]) -> Self {
        let mut search =
            Self { filter: vec![0; 1 << (FILTER_BITS - 6)], spellings: HashMap::new(), longest: WINDOW };
        for (number, secret) in secrets.iter().enumerate() {
            for spelling in spellings(secret) {
                let Some(first) = spelling.first_chunk::<WINDOW>() else { continue };
                let first = u64::from_le_bytes(*first);
                let (word, bit) = place(first);
                search.filter[word] |= bit;
                search.longest = search.longest.max(spelling.len());
                search.spellings.entry(first).or_default().push((spelling, number));
            }
        }
        search
    }

    /// Adds the numbers of the secrets that are in there.
    pub(super) fn look(&self, bytes: &[u8], found: &mut BTreeSet<usize>) {
        for (at, window) in bytes.windows(WINDOW).enumerate() {
            let Some(first) = window.first_chunk::<WINDOW>() else { continue };
            let first = u64::from_le_bytes(*first);
            let (word, bit) = place(first);
            if self.filter[word] & bit == 0 {
                continue;
            }
            for (spelling, number) in self.spellings.get(&first).into_iter().flatten() {
                if bytes[at..].starts_with(spelling) {
                    found.insert(*number);
                }
            }
        }
    }

    /// Looks through every file below `root`, and through its name, and counts by what `kind` says of its path.
    pub(super) fn look_below(
        &self,
        fs: &dyn FileSystem,
        root: &Path,
        kind: &dyn Fn(&Path) -> &'static str,
    ) -> Result<BTreeMap<&'static str, Searched>, Failure> {
        let mut all: BTreeMap<&'static str, Searched> = BTreeMap::new();
        for path in files_below(root)? {
            let inner = path.strip_prefix(root).unwrap_or(&path);
            let searched = all.entry(kind(inner)).or_default();
            searched.files += 1;
            self.look(inner.as_os_str().as_encoded_bytes(), &mut searched.found);
            searched.bytes += self.look_into(fs, &path, &mut searched.found)?;
        }
        Ok(all)
    }

    fn look_into(
        &self,
        fs: &dyn FileSystem,
        path: &Path,
        found: &mut BTreeSet<usize>,
    ) -> Result<u64, Failure> {
        let doing = |error| Failure::io(format!("read {}", path.display()), &error);
        let file = fs.open(path, Access::Read).map_err(doing)?;
        let mut buffer = vec![0; READ_BYTES];
        let (mut offset, mut kept) = (0, 0);
        loop {
            let read = file.read_at(&mut buffer[kept..], offset).map_err(doing)?;
            if read == 0 {
                return Ok(offset);
            }
            offset += read as u64;
            self.look(&buffer[..kept + read], found);
            // A spelling may lie over the end.
            let end = kept + read;
            kept = end.min(self.longest - 1);
            buffer.copy_within(end - kept..end, 0);
        }
    }
}

/// Where the filter has a window's bit.
fn place(first: u64) -> (usize, u64) {
    let mixed = first.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - FILTER_BITS);
    let word = usize::try_from(mixed >> 6).expect("a filter has fewer words than 2^32");
    (word, 1 << (mixed & 63))
}

fn files_below(root: &Path) -> Result<Vec<PathBuf>, Failure> {
    let (mut files, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        let doing = |error| Failure::io(format!("list {}", folder.display()), &error);
        for entry in std::fs::read_dir(&folder).map_err(doing)? {
            let entry = entry.map_err(doing)?;
            let is_folder = entry.file_type().map_err(doing)?.is_dir();
            if is_folder { &mut folders } else { &mut files }.push(entry.path());
        }
    }
    files.sort_unstable();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use pugdb::env::Env;
    use pugdb::env::os::OsRandom;

    use super::super::secrets::Secrets;
    use super::*;

    #[test]
    fn a_secret_is_found_in_each_spelling_and_at_each_place() {
        let secrets = Secrets::make(&OsRandom);
        let search = Search::new(secrets.all());
        let one = &secrets.all()[4_711];
        let whole = one.as_bytes();
        let encoded = |shift: usize| base64(&[&b"??"[..shift], whole, b"!"].concat()).into_bytes();
        for spelled in [
            whole.to_vec(),
            whole[..10].to_vec(),
            whole[whole.len() - 9..].to_vec(),
            hex(whole).into_bytes(),
            hex(whole).to_uppercase().into_bytes(),
            encoded(0),
            encoded(1),
            encoded(2),
        ] {
            for before in [0, 1, 5] {
                let mut found = BTreeSet::new();
                search.look(&[&vec![b'.'; before], &spelled[..], b"."].concat(), &mut found);
                assert_eq!(found, BTreeSet::from([4_711]), "{before} before {}", spelled.escape_ascii());
            }
        }
        let mut found = BTreeSet::new();
        search.look(&whole[..7], &mut found);
        search.look(b"", &mut found);
        search.look(&vec![b'a'; 1 << 20], &mut found);
        assert_eq!(found, BTreeSet::new());
    }

    #[test]
    fn a_secret_over_the_end_of_what_is_read_at_once_is_found() {
        let secrets = Secrets::make(&OsRandom);
        let search = Search::new(secrets.all());
        let env = Env::os();
        let fs = &*env.fs;
        for (number, before) in
            [READ_BYTES - 60, READ_BYTES - 30, READ_BYTES - 1, READ_BYTES].into_iter().enumerate()
        {
            let dir = tempfile::tempdir().unwrap();
            let spelled = hex(secrets.all()[number].as_bytes());
            let file = fs.create(&dir.path().join("file")).unwrap();
            file.write_at(spelled.as_bytes(), before as u64).unwrap();
            let all = search.look_below(fs, dir.path(), &|_| "all").unwrap();
            let searched = &all["all"];
            assert_eq!(searched.found, BTreeSet::from([number]));
            assert_eq!((searched.files, searched.bytes), (1, (before + spelled.len()) as u64));
        }
    }
}
