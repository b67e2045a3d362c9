//! A mistake on the command line, told without what the user typed by accident: clap quotes the argument that it does not
//! understand, and that may be a key, a value or a password. Pure.

use clap::Error;
use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Stands for what is not quoted.
const HIDDEN: &str = "…";
/// No flag is as long.
const FLAG_BYTES_MAX: usize = 40;

/// The same error, without what may be a secret.
pub(super) fn without_content(mut error: Error) -> Error {
    let argument = text(&error, ContextKind::InvalidArg);
    match error.kind() {
        ErrorKind::UnknownArgument if !reads_like_a_flag(&argument) => {
            error.insert(ContextKind::InvalidArg, ContextValue::String(HIDDEN.to_owned()));
            let tip = "quote what has blanks in it, and put what begins with - behind --";
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(tip)]));
        }
        // People write passwords into addresses.
        ErrorKind::ValueValidation if argument.starts_with("--url") => {
            error.insert(ContextKind::InvalidValue, ContextValue::String(HIDDEN.to_owned()));
        }
        _ => {}
    }
    error
}

fn text(error: &Error, kind: ContextKind) -> String {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    }
}

/// True for a flag that is spelled wrong, which has to be named. A private key in PEM begins with dashes, too.
fn reads_like_a_flag(argument: &str) -> bool {
    argument.strip_prefix("--").is_some_and(|name| {
        name.len() <= FLAG_BYTES_MAX
            && name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'-' | b'_'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_told_from_values() {
        for flag in ["--kespace", "--expire-inn", "--no_http"] {
            assert!(reads_like_a_flag(flag), "{flag}");
        }
        for value in ["word", "-5", "--", "-----BEGIN PRIVATE KEY-----", "--Secret", "--s3cret", ""] {
            assert!(!reads_like_a_flag(value), "{value}");
        }
        assert!(!reads_like_a_flag(&format!("--{}", "a".repeat(FLAG_BYTES_MAX + 1))));
    }
}
