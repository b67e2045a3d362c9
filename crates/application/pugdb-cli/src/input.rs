//! Keys and values of the command line: text, `@FILE`, or `-` for stdin.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use pugdb::limits;

use crate::arguments::Form;
use crate::outcome::Failure;
use crate::text::{unbase64, unescape, unhex};

/// What an argument stands for.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    Bytes(Vec<u8>),
    File(OsString),
    Stdin,
}

fn source(argument: &OsStr, form: Form) -> Result<Source, Failure> {
    let bytes = argument.as_bytes();
    let decoded = match (form, bytes) {
        (Form::Plain, b"-") => return Ok(Source::Stdin),
        (Form::Plain, [b'@', file @ ..]) => return Ok(Source::File(OsString::from_vec(file.to_vec()))),
        (Form::Plain | Form::Literal | Form::Raw, _) => Ok(bytes.to_vec()),
        (Form::Escaped, _) => unescape(bytes),
        (Form::Hex, _) => unhex(bytes),
        (Form::Base64, _) => unbase64(bytes),
    };
    decoded.map(Source::Bytes).map_err(Failure::usage)
}

/// The bytes of a key.
pub(crate) fn key(argument: &OsStr, form: Form) -> Result<Vec<u8>, Failure> {
    source(argument, form)
        .and_then(|source| read(source, limits::KEY_BYTES_MAX))
        .map_err(|failure| failure.at("the key"))
}

/// The bytes of a key and of its value.
pub(crate) fn key_and_value(key: &OsStr, value: &OsStr, form: Form) -> Result<(Vec<u8>, Vec<u8>), Failure> {
    let key = source(key, form).map_err(|failure| failure.at("the key"))?;
    let value = source(value, form).map_err(|failure| failure.at("the value"))?;
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

    #[test]
    fn what_an_argument_stands_for() {
        let source = |text: &str, form| source(OsStr::new(text), form).map_err(|failure| failure.message);
        let bytes = |bytes: &[u8]| Ok(Source::Bytes(bytes.to_vec()));
        assert_eq!(source("ada", Form::Plain), bytes(b"ada"));
        assert_eq!(source("", Form::Plain), bytes(b""));
        assert_eq!(source("-", Form::Plain), Ok(Source::Stdin));
        assert_eq!(source("--", Form::Plain), bytes(b"--"));
        assert_eq!(source("@file", Form::Plain), Ok(Source::File("file".into())));
        for form in [Form::Literal, Form::Raw] {
            assert_eq!(source("@file", form), bytes(b"@file"));
            assert_eq!(source("-", form), bytes(b"-"));
        }
        assert_eq!(source(r"a\x00\tb", Form::Escaped), bytes(b"a\0\tb"));
        assert_eq!(source("6100ff", Form::Hex), bytes(b"a\0\xff"));
        assert_eq!(source("YQD/", Form::Base64), bytes(b"a\0\xff"));
        for (text, form, part) in [
            (r"a\q", Form::Escaped, "backslash"),
            ("6", Form::Hex, "hexadecimal"),
            ("6", Form::Base64, "base64"),
        ] {
            assert!(source(text, form).unwrap_err().contains(part), "{text}");
        }
    }

    #[test]
    fn stdin_is_read_once() {
        let dash = OsStr::new("-");
        assert_eq!(key_and_value(dash, dash, Form::Plain).unwrap_err().exit, crate::outcome::Exit::Usage);
    }

    #[test]
    fn a_reader_is_read_up_to_the_limit() {
        assert_eq!(read_up_to(&mut b"abc".as_slice(), 3).unwrap(), Some(b"abc".to_vec()));
        assert_eq!(read_up_to(&mut b"abcd".as_slice(), 3).unwrap(), None);
        assert_eq!(read_up_to(&mut io::repeat(0), 10).unwrap(), None);
    }
}
