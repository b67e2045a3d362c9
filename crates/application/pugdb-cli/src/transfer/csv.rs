//! Records of CSV as RFC 4180 has them, with any delimiter. Pure: no I/O here.
//!
//! Stricter than many a reader: a quote opens a field or is part of none, and behind a closing quote comes a delimiter or
//! the end. What is lenient there reads another file than was written.

use std::fmt;

/// Three bytes that some programs put before text in UTF-8.
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Takes a record apart, line by line: a quoted field may hold line ends.
#[derive(Debug)]
pub(super) struct Splitter {
    delimiter: u8,
    state: State,
    /// The content of all fields, one behind the other.
    content: Vec<u8>,
    /// Where each field ends in it.
    ends: Vec<usize>,
    /// The first field began with a quote, so an empty record is not a blank line.
    is_quoted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the beginning of a field.
    Start,
    /// Within a field without quotes.
    Plain,
    /// Within quotes.
    Quoted,
    /// Behind a quote within quotes: it closes them, or another one follows.
    Quote,
    Bad(Flaw),
}

/// What is wrong with a record, without a byte of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    QuoteWithin,
    BehindQuote,
    Open,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::QuoteWithin => {
                "a quote stands within a field that does not begin with one; quote the field and double it"
            }
            Self::BehindQuote => {
                "behind a closing quote stands something other than a delimiter or the end of the line"
            }
            Self::Open => "a quoted field is not closed",
        })
    }
}

impl Splitter {
    pub(super) fn new(delimiter: u8) -> Self {
        Self { delimiter, state: State::Start, content: Vec::new(), ends: Vec::new(), is_quoted: false }
    }

    /// Gets ready for the next record.
    pub(super) fn clear(&mut self) {
        self.state = State::Start;
        self.content.clear();
        self.ends.clear();
        self.is_quoted = false;
    }

    /// Takes in a line, its end included. True when the record goes on behind it.
    pub(super) fn feed(&mut self, line: &[u8]) -> bool {
        let content = line.strip_suffix(b"\r\n").or_else(|| line.strip_suffix(b"\n")).unwrap_or(line);
        for &byte in content {
            self.step(byte);
        }
        if self.state == State::Quoted {
            self.content.extend_from_slice(&line[content.len()..]);
            // A line without end is the last one.
            return content.len() < line.len();
        }
        self.ends.push(self.content.len());
        false
    }

    fn step(&mut self, byte: u8) {
        self.state = match (self.state, byte) {
            (State::Bad(flaw), _) => State::Bad(flaw),
            (State::Start, b'"') => {
                self.is_quoted = true;
                State::Quoted
            }
            (State::Plain, b'"') => State::Bad(Flaw::QuoteWithin),
            (State::Quoted, b'"') => State::Quote,
            (State::Start | State::Plain | State::Quote, byte) if byte == self.delimiter => {
                self.ends.push(self.content.len());
                State::Start
            }
            (State::Quote, b'"') => {
                self.content.push(b'"');
                State::Quoted
            }
            (State::Quote, _) => State::Bad(Flaw::BehindQuote),
            (State::Quoted, byte) => {
                self.content.push(byte);
                State::Quoted
            }
            (State::Start | State::Plain, byte) => {
                self.content.push(byte);
                State::Plain
            }
        };
    }

    /// What is wrong with the record.
    pub(super) fn check(&self) -> Result<(), Flaw> {
        match self.state {
            State::Bad(flaw) => Err(flaw),
            State::Quoted => Err(Flaw::Open),
            State::Start | State::Plain | State::Quote => Ok(()),
        }
    }

    /// True for an empty line.
    pub(super) fn is_blank(&self) -> bool {
        self.ends.len() == 1 && self.content.is_empty() && !self.is_quoted
    }

    /// How many fields the record has.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The content of a field.
    pub(super) fn field(&self, number: usize) -> &[u8] {
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.content[start..self.ends[number]]
    }
}

/// Appends a field, quoted where it has to be.
pub(super) fn put_field(out: &mut Vec<u8>, field: &[u8], delimiter: u8) {
    let needs_quotes = field.iter().any(|&byte| byte == delimiter || matches!(byte, b'"' | b'\n' | b'\r'))
        || field.starts_with(BYTE_ORDER_MARK);
    if !needs_quotes {
        out.extend_from_slice(field);
        return;
    }
    out.push(b'"');
    for &byte in field {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The records of a text, as a reader of lines feeds them.
    fn records(text: &[u8], delimiter: u8) -> Result<Vec<Vec<Vec<u8>>>, Flaw> {
        let mut splitter = Splitter::new(delimiter);
        let mut records = Vec::new();
        let mut goes_on = false;
        for line in text.split_inclusive(|&byte| byte == b'\n') {
            if !goes_on {
                splitter.clear();
            }
            goes_on = splitter.feed(line);
            if !goes_on {
                splitter.check()?;
                if !splitter.is_blank() {
                    records.push((0..splitter.len()).map(|number| splitter.field(number).to_vec()).collect());
                }
            }
        }
        if goes_on { Err(Flaw::Open) } else { Ok(records) }
    }

    fn text(text: &str) -> Result<Vec<Vec<String>>, Flaw> {
        let records = records(text.as_bytes(), b',')?;
        let text = |field: Vec<u8>| String::from_utf8(field).unwrap();
        Ok(records.into_iter().map(|record| record.into_iter().map(text).collect()).collect())
    }

    #[test]
    fn the_examples_of_the_rfc() {
        assert_eq!(
            text("aaa,bbb,ccc\r\nzzz,yyy,xxx").unwrap(),
            [["aaa", "bbb", "ccc"], ["zzz", "yyy", "xxx"]]
        );
        assert_eq!(
            text("\"aaa\",\"b\r\nbb\",\"ccc\"\r\nzzz,yyy,xxx\r\n").unwrap(),
            [["aaa", "b\r\nbb", "ccc"], ["zzz", "yyy", "xxx"]]
        );
        assert_eq!(text("\"aaa\",\"b\"\"bb\",\"ccc\"\n").unwrap(), [["aaa", "b\"bb", "ccc"]]);
        assert_eq!(text(",\n\n a ,\"\"\n").unwrap(), [["", ""], [" a ", ""]]);
        assert_eq!(text("\"\"\n").unwrap(), [[""]]);
    }

    #[test]
    fn what_is_ambiguous_is_refused() {
        assert_eq!(text("a,5\" disk\n"), Err(Flaw::QuoteWithin));
        assert_eq!(text("\"a\"b,c\n"), Err(Flaw::BehindQuote));
        assert_eq!(text("\"a\n"), Err(Flaw::Open));
        assert_eq!(text("\"a"), Err(Flaw::Open));
        assert_eq!(text("a,\"b\"\"\nc\n"), Err(Flaw::Open));
    }

    #[test]
    fn every_record_comes_back_from_its_text() {
        let mut random = fastrand::Rng::with_seed(23);
        for round in 0..3_000 {
            let delimiter = *random.choice(b",;\t|").unwrap();
            let mut byte =
                || if round % 2 == 0 { random.u8(..) } else { *random.choice(b",;\t|\"\r\n ab").unwrap() };
            let record: Vec<Vec<u8>> = (0..3).map(|_| (0..byte() % 8).map(|_| byte()).collect()).collect();
            let mut line = Vec::new();
            for (number, field) in record.iter().enumerate() {
                if number > 0 {
                    line.push(delimiter);
                }
                put_field(&mut line, field, delimiter);
            }
            line.push(b'\n');
            assert_eq!(records(&line, delimiter).unwrap(), [record], "{}", line.escape_ascii());
        }
    }
}
