//! Which keys may become paths below a directory. Pure: it looks at bytes only.

/// The parts of a key that is a relative path without tricks, or why it is none. Every such key has a path of its own.
pub(super) fn parts(key: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    if key.is_empty() {
        return Err("an empty key is no path");
    }
    if key.starts_with(b"/") {
        return Err("the path is absolute");
    }
    if key.contains(&0) {
        return Err("NUL cannot be in a path");
    }
    let parts: Vec<&[u8]> = key.split(|&byte| byte == b'/').collect();
    for part in &parts {
        match *part {
            b"" => return Err("a part of the path is empty"),
            b"." | b".." => return Err("a part of the path is . or .."),
            _ => {}
        }
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_relative_paths_are_safe() {
        for key in ["a", "a/b", "a b/c\nd", "...", ".hidden", "a/..b/c..", "~", "a\\b", "-"] {
            let parts = parts(key.as_bytes()).unwrap();
            assert_eq!(parts.join(&b'/'), key.as_bytes());
        }
        assert_eq!(parts(b"\xff/\xfe").unwrap(), [b"\xff", b"\xfe"]);
    }

    #[test]
    fn tricks_are_refused() {
        for key in [
            "",
            "/",
            "/etc/passwd",
            "//a",
            "..",
            "../a",
            "a/..",
            "a/../b",
            ".",
            "./a",
            "a/.",
            "a/./b",
            "a//b",
            "a/",
            "a\0b",
        ] {
            assert!(parts(key.as_bytes()).is_err(), "{key:?}");
        }
    }
}
