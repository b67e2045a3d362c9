//! Keys and values of the command line: text, `@FILE`, or `-` for stdin.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use pugdb::limits;

use crate::arguments::Spelling;
use crate::outcome::Failure;
use crate::text::unescape;

/// What an argument stands for.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    Bytes(Vec<u8>),
    File(OsString),
    Stdin,
}

fn source(argument: &OsStr, spelling: Spelling) -> Result<Source, Failure> {
    let bytes = argument.as_bytes();
    Ok(match bytes {
        _ if spelling.literal => Source::Bytes(bytes.to_vec()),
        _ if spelling.escaped => Source::Bytes(unescape(bytes).map_err(Failure::usage)?),
        b"-" => Source::Stdin,
        [b'@', file @ ..] => Source::File(OsString::from_vec(file.to_vec())),
        _ => Source::Bytes(bytes.to_vec()),
    })
}

/// The bytes of a key.
pub(crate) fn key(argument: &OsStr, spelling: Spelling) -> Result<Vec<u8>, Failure> {
    read(source(argument, spelling)?, limits::KEY_BYTES_MAX).map_err(|failure| failure.at("the key"))
}

/// The bytes of a key and of its value.
pub(crate) fn key_and_value(
    key: &OsStr,
    value: &OsStr,
    spelling: Spelling,
) -> Result<(Vec<u8>, Vec<u8>), Failure> {
    let (key, value) = (source(key, spelling)?, source(value, spelling)?);
    if key == Source::Stdin && value == Source::Stdin {
        return Err(Failure::usage("only one of key and value can come from stdin"));
    }
    let key = read(key, limits::KEY_BYTES_MAX).map_err(|failure| failure.at("the key"))?;
    let value = read(value, limits::VALUE_BYTES_MAX).map_err(|failure| failure.at("the value"))?;
    Ok((key, value))
}

fn read(source: Source, bytes_max: usize) -> Result<Vec<u8>, Failure> {
    match source {
        Source::Bytes(bytes) => Ok(bytes),
        Source::Stdin => read_up_to(&mut io::stdin().lock(), bytes_max)
            .map_err(|error| Failure::io("read stdin", &error))?
            .ok_or_else(|| too_long(bytes_max)),
        Source::File(path) => {
            let doing = format!("read {}", path.display());
            let file = std::fs::OpenOptions::new().read(true).open(&path);
            file.and_then(|mut file| read_up_to(&mut file, bytes_max))
                .map_err(|error| Failure::io(doing, &error))?
                .ok_or_else(|| too_long(bytes_max))
        }
    }
}

fn too_long(bytes_max: usize) -> Failure {
    Failure::usage(format!("has more than the {bytes_max} bytes that are allowed"))
}

/// All that `reader` gives; `None` if it is more than `bytes_max`.
pub(crate) fn read_up_to(reader: &mut impl Read, bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    reader.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= bytes_max).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Spelling = Spelling { literal: false, escaped: false };

    #[test]
    fn what_an_argument_stands_for() {
        let source =
            |text: &str, spelling| source(OsStr::new(text), spelling).map_err(|failure| failure.message);
        assert_eq!(source("ada", PLAIN), Ok(Source::Bytes(b"ada".to_vec())));
        assert_eq!(source("", PLAIN), Ok(Source::Bytes(Vec::new())));
        assert_eq!(source("-", PLAIN), Ok(Source::Stdin));
        assert_eq!(source("--", PLAIN), Ok(Source::Bytes(b"--".to_vec())));
        assert_eq!(source("@file", PLAIN), Ok(Source::File("file".into())));
        let literal = Spelling { literal: true, ..PLAIN };
        assert_eq!(source("@file", literal), Ok(Source::Bytes(b"@file".to_vec())));
        assert_eq!(source("-", literal), Ok(Source::Bytes(b"-".to_vec())));
        let escaped = Spelling { escaped: true, ..PLAIN };
        assert_eq!(source(r"a\x00\tb", escaped), Ok(Source::Bytes(b"a\0\tb".to_vec())));
        assert!(source(r"a\q", escaped).unwrap_err().contains("backslash"));
    }

    #[test]
    fn stdin_is_read_once() {
        let dash = OsStr::new("-");
        assert_eq!(key_and_value(dash, dash, PLAIN).unwrap_err().exit, crate::outcome::Exit::Usage);
    }

    #[test]
    fn a_reader_is_read_up_to_the_limit() {
        assert_eq!(read_up_to(&mut b"abc".as_slice(), 3).unwrap(), Some(b"abc".to_vec()));
        assert_eq!(read_up_to(&mut b"abcd".as_slice(), 3).unwrap(), None);
        assert_eq!(read_up_to(&mut io::repeat(0), 10).unwrap(), None);
    }
}
