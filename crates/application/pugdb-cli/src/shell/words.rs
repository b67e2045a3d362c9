//! A line of the shell to words: blanks separate, quotes hold together. Pure.
//!
//! In `"…"` stand `\n`, `\r`, `\t`, `\\`, `\"` and `\xNN`; in `'…'` only `\'` and `\\`. Elsewhere a backslash is itself, but
//! at the end of a line, where the command goes on in the next one.

use crate::text::escape_into;

/// A line taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) list: Vec<Vec<u8>>,
    /// Where the last word begins; the end of the line when there is none, or a blank stands behind it.
    pub(super) last_start: usize,
    /// The line ends in a word, and not behind one.
    pub(super) in_word: bool,
    pub(super) state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    Whole,
    /// A quote is open, or the line ends with a backslash: more has to come.
    Open,
    /// A closing quote is followed by something other than a blank, or an escape is none.
    Wrong(&'static str),
}

pub(super) fn split(line: &[u8]) -> Words {
    let mut split = Split { line, at: 0, out: Words::default() };
    split.run();
    split.out
}

struct Split<'a> {
    line: &'a [u8],
    at: usize,
    out: Words,
}

impl Split<'_> {
    fn run(&mut self) {
        loop {
            self.skip_blanks();
            self.out.last_start = self.at;
            self.out.in_word = false;
            let Some(&first) = self.line.get(self.at) else { return };
            self.out.in_word = true;
            let mut word = Vec::new();
            let state = match first {
                b'"' => self.double_quoted(&mut word),
                b'\'' => self.single_quoted(&mut word),
                _ => self.plain(&mut word),
            };
            self.out.list.push(word);
            self.out.state = state;
            if state != State::Whole || self.at == self.line.len() {
                return;
            }
        }
    }

    /// Blanks, line ends, and backslashes before line ends.
    fn skip_blanks(&mut self) {
        loop {
            match self.line[self.at..] {
                [b' ' | b'\t' | b'\r' | b'\n', ..] => self.at += 1,
                [b'\\', b'\n', ..] => self.at += 2,
                [b'\\'] => {
                    self.at += 1;
                    self.out.state = State::Open;
                }
                _ => return,
            }
        }
    }

    fn plain(&mut self, word: &mut Vec<u8>) -> State {
        while let Some(&byte) = self.line.get(self.at) {
            let rest = &self.line[self.at..];
            if byte.is_ascii_whitespace() || rest.starts_with(b"\\\n") {
                return State::Whole;
            }
            self.at += 1;
            if rest == b"\\" {
                return State::Open;
            }
            word.push(byte);
        }
        State::Whole
    }

    fn single_quoted(&mut self, word: &mut Vec<u8>) -> State {
        self.at += 1;
        loop {
            match self.line[self.at..] {
                [b'\\', escaped @ (b'\'' | b'\\'), ..] => {
                    word.push(escaped);
                    self.at += 2;
                }
                [b'\'', ..] => {
                    self.at += 1;
                    return self.behind_quote();
                }
                [byte, ..] => {
                    word.push(byte);
                    self.at += 1;
                }
                [] => return State::Open,
            }
        }
    }

    fn double_quoted(&mut self, word: &mut Vec<u8>) -> State {
        const BAD: &str =
            "in \"…\" a backslash is followed by n, r, t, \\, \" or x and two hexadecimal digits";
        self.at += 1;
        loop {
            let (byte, length) = match self.line[self.at..] {
                [] | [b'\\'] | [b'\\', b'x'] | [b'\\', b'x', _] => return State::Open,
                [b'"', ..] => {
                    self.at += 1;
                    return self.behind_quote();
                }
                [b'\\', b'n', ..] => (b'\n', 2),
                [b'\\', b'r', ..] => (b'\r', 2),
                [b'\\', b't', ..] => (b'\t', 2),
                [b'\\', escaped @ (b'"' | b'\\'), ..] => (escaped, 2),
                [b'\\', b'x', high, low, ..] => match crate::text::unhex(&[high, low]).as_deref() {
                    Ok(&[byte]) => (byte, 4),
                    _ => return State::Wrong(BAD),
                },
                [b'\\', ..] => return State::Wrong(BAD),
                [byte, ..] => (byte, 1),
            };
            word.push(byte);
            self.at += length;
        }
    }

    fn behind_quote(&self) -> State {
        match self.line.get(self.at) {
            None => State::Whole,
            Some(byte) if byte.is_ascii_whitespace() => State::Whole,
            Some(_) => State::Wrong("behind a closing quote comes a blank"),
        }
    }
}

/// A word that [`split`] reads as these bytes.
pub(super) fn quote(bytes: &[u8]) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.:/@+%,=*?~#{}[]()<>|&^!$;".contains(byte);
    if let Ok(text) = std::str::from_utf8(bytes)
        && !bytes.is_empty()
        && bytes.iter().all(is_plain)
    {
        return text.to_owned();
    }
    let mut inner = String::new();
    escape_into(&mut inner, bytes);
    format!("\"{}\"", inner.replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        let split = split(line.as_bytes());
        assert_eq!(split.state, State::Whole, "{line}");
        split.list.into_iter().map(|word| String::from_utf8(word).unwrap()).collect()
    }

    #[test]
    fn blanks_separate_and_quotes_hold_together() {
        assert_eq!(words("put a  b\t c\n"), ["put", "a", "b", "c"]);
        assert_eq!(words(r#"put "a b" 'c "d"' """#), ["put", "a b", "c \"d\"", ""]);
        assert_eq!(words(r#""\n\t\\\"\x41" 'it\'s \n'"#), ["\n\t\\\"A", "it's \\n"]);
        assert_eq!(words(r"C:\dir a\b"), [r"C:\dir", r"a\b"]);
        assert_eq!(words("put \\\n a \"1\n2\""), ["put", "a", "1\n2"]);
        assert_eq!(words("a\\\nb"), ["a", "b"]);
        assert_eq!(words("   "), [] as [&str; 0]);
        assert_eq!(words("it's"), ["it's"]);
    }

    #[test]
    fn what_is_open_goes_on_and_what_is_wrong_does_not() {
        for line in ["put \"a", "put 'a", "put a \\", "put a\\", "\"a\\", "\"a\\x", "\"a\\x4"] {
            assert_eq!(split(line.as_bytes()).state, State::Open, "{line}");
        }
        for line in ["\"a\"b", "'a'b", "\"\\q\"", "\"\\xg0\""] {
            assert!(matches!(split(line.as_bytes()).state, State::Wrong(_)), "{line}");
        }
    }

    #[test]
    fn the_last_word_is_known_for_completion() {
        let last = |line: &str| {
            let split = split(line.as_bytes());
            (split.list.len(), split.last_start, split.in_word)
        };
        assert_eq!(last(""), (0, 0, false));
        assert_eq!(last("ge"), (1, 0, true));
        assert_eq!(last("get "), (1, 4, false));
        assert_eq!(last("get us"), (2, 4, true));
        assert_eq!(last("get \"us er"), (2, 4, true));
    }

    #[test]
    fn every_word_comes_back_from_its_quotes() {
        let mut random = fastrand::Rng::with_seed(53);
        for _ in 0..3_000 {
            let bytes: Vec<u8> = (0..random.usize(..12)).map(|_| random.u8(..)).collect();
            let line = quote(&bytes);
            assert_eq!(split(line.as_bytes()).list, [bytes], "{line}");
        }
        for text in ["user:1", "a b", "", "größe", "it's", "say \"hi\"", "back\\slash"] {
            assert_eq!(words(&quote(text.as_bytes())), [text]);
        }
    }
}
