//! Patterns of keys and names in the dialect of Redis: `*`, `?`, `[a-c]`, `[^a]`, and `\` before a byte itself. What
//! `SCAN` and `CONFIG GET` ask with, and what rights are about.

/// Whether a text matches a pattern as a whole, in the dialect of Redis.
///
/// A failed match goes back to the last `*` only: what an earlier one could have taken instead, the last one can take
/// as well. So the work is at most pattern times text, for any pattern.
///
/// ```
/// use pugdb_core::glob;
///
/// assert!(glob::matches(b"user:*", b"user:17") && !glob::matches(b"user:?", b"user:17"));
/// ```
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern_rest, mut text_rest) = (pattern, text);
    let mut last_star: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', after @ ..] = pattern_rest {
            last_star = Some((after, text_rest));
            pattern_rest = after;
            continue;
        }
        let matched = match (text_rest.split_first(), pattern_rest.is_empty()) {
            (None, true) => return true,
            (None, false) => return false,
            (Some(_), true) => None,
            (Some((&byte, text_after)), false) => one(pattern_rest, byte).map(|after| (after, text_after)),
        };
        (pattern_rest, text_rest) = match (matched, last_star) {
            (Some(rests), _) => rests,
            (None, Some((after_star, from))) => {
                // The star takes one byte more.
                let Some((_, from)) = from.split_first() else { return false };
                last_star = Some((after_star, from));
                (after_star, from)
            }
            (None, None) => return false,
        };
    }
}

/// The bytes that every match begins with.
///
/// ```
/// assert_eq!(pugdb_core::glob::literal_prefix(b"user:*:name"), b"user:");
/// ```
pub fn literal_prefix(pattern: &[u8]) -> &[u8] {
    let end = pattern.iter().position(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\'));
    pattern.get(..end.unwrap_or(pattern.len())).unwrap_or_default()
}

/// Matches one byte against the front of a pattern that is not empty; what follows in the pattern is returned.
fn one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [b'?', after @ ..] => Some(after),
        [b'[', after @ ..] => class(after, byte),
        [b'\\', literal, after @ ..] | [literal, after @ ..] => (*literal == byte).then_some(after),
        [] => None,
    }
}

/// Matches one byte against a class whose `[` is read. A class that is not closed ends with the pattern.
fn class(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    let (mut rest, negated) = match pattern {
        [b'^', rest @ ..] => (rest, true),
        rest => (rest, false),
    };
    let mut found = false;
    loop {
        rest = match rest {
            [] => break,
            [b']', after @ ..] => {
                rest = after;
                break;
            }
            [b'\\', literal, after @ ..] => {
                found |= *literal == byte;
                after
            }
            [from, b'-', to, after @ ..] => {
                found |= (*from.min(to)..=*from.max(to)).contains(&byte);
                after
            }
            [literal, after @ ..] => {
                found |= *literal == byte;
                after
            }
        };
    }
    (found != negated).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_redis() {
        let yes = [
            ("", ""),
            ("*", ""),
            ("**", "ab"),
            ("a*c", "abbc"),
            ("a*b*c", "a1b2b3c"),
            ("*:1", "user:1"),
            ("h?llo", "hello"),
            ("h[ae]llo", "hallo"),
            ("h[^e]llo", "hallo"),
            ("h[a-c]llo", "hbllo"),
            ("h[c-a]llo", "hbllo"),
            ("\\*", "*"),
            ("[\\]]", "]"),
            ("a[b", "ab"),
            ("a\\", "a\\"),
        ];
        for (pattern, text) in yes {
            assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
        let no = [
            ("", "a"),
            ("a", ""),
            ("?", ""),
            ("a*c", "ab"),
            ("h[^e]llo", "hello"),
            ("[a]", "b"),
            ("\\*", "a"),
        ];
        for (pattern, text) in no {
            assert!(!matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
        assert!(matches(b"\xff*\x00", b"\xff\xfe\x00"));
    }

    #[test]
    fn a_hostile_pattern_takes_no_exponential_time() {
        let pattern = b"a*".repeat(500);
        let mut text = vec![b'a'; 5000];
        text.push(b'b');
        assert!(!matches(&[&pattern[..], b"c"].concat(), &text));
        assert!(matches(&pattern, &text));
    }

    #[test]
    fn the_prefix_of_a_pattern_ends_at_its_first_special_byte() {
        assert_eq!(literal_prefix(b"user:*"), b"user:");
        assert_eq!(literal_prefix(b"user"), b"user");
        assert_eq!(literal_prefix(b"us\\*"), b"us");
        assert_eq!(literal_prefix(b"*"), b"");
    }
}
