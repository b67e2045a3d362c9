//! `LCS`: the longest common subsequence of two strings.

use bytes::Bytes;
use pugdb_wire::resp::Reply;
use pugdb_wire::resp::limits::BULK_BYTES_MAX;

use super::{count, text};
use crate::arguments::{at, is, need_integer};
use crate::call::{Call, string_of};
use crate::failure::Failure;

/// What `LCS` is asked for beside its keys.
#[derive(Debug, Default)]
struct Options {
    wants_length: bool,
    wants_places: bool,
    length_min: i64,
    with_lengths: bool,
}

impl Options {
    fn parse(mut words: &[Bytes]) -> Result<Self, Failure> {
        let mut options = Self::default();
        while let [word, after @ ..] = words {
            words = after;
            if is(word, "len") {
                options.wants_length = true;
            } else if is(word, "idx") {
                options.wants_places = true;
            } else if is(word, "withmatchlen") {
                options.with_lengths = true;
            } else if let (true, [length, after @ ..]) = (is(word, "minmatchlen"), after) {
                options.length_min = need_integer(length)?;
                words = after;
            } else {
                return Err(Failure::SYNTAX);
            }
        }
        if options.wants_places && options.wants_length {
            return Err(Failure::new("ERR If you want both the length and indexes, please just use IDX."));
        }
        Ok(options)
    }
}

/// `LCS key1 key2 [LEN] [IDX] [MINMATCHLEN length] [WITHMATCHLEN]`
pub(super) fn lcs(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let (one, two) = two_strings(call, at(arguments, 1)?, at(arguments, 2)?)?;
    let options = Options::parse(arguments.get(3..).unwrap_or_default())?;
    if !is_affordable(one.len(), two.len()) {
        return Err(Failure::new(
            "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
        ));
    }
    if options.wants_length {
        return Ok(count(Table::fill(&one, &two, Keeps::Length).length));
    }
    let table = Table::fill(&one, &two, Keeps::Way);
    if !options.wants_places {
        return Ok(Reply::Bulk(table.subsequence(&one, &two).into()));
    }
    let matches = table.matches(&one, &two).into_iter();
    let matches =
        matches.filter(|found| i64::try_from(found.length).is_ok_and(|length| length >= options.length_min));
    let places = |start: usize, length: usize| Reply::Array(vec![count(start), count(start + length - 1)]);
    let matches = matches.map(|Match { one, two, length }| {
        let mut found = vec![places(one, length), places(two, length)];
        if options.with_lengths {
            found.push(count(length));
        }
        Reply::Array(found)
    });
    Ok(Reply::Map(vec![
        (text("matches"), Reply::Array(matches.collect())),
        (text("len"), count(table.length)),
    ]))
}

/// Both strings at one moment, empty where there is none.
fn two_strings(call: &Call<'_>, one: &Bytes, two: &Bytes) -> Result<(Bytes, Bytes), Failure> {
    let view = call.view()?;
    let (one, two) = (view.entry(one)?, view.entry(two)?);
    call.count_reads(2, usize::from(one.is_some()) + usize::from(two.is_some()));
    let string = |entry: Option<_>| {
        let string = entry.map(string_of).transpose();
        string.map_err(|_| Failure::new("ERR The specified keys must contain string values"))
    };
    Ok((string(one)?.unwrap_or_default(), string(two)?.unwrap_or_default()))
}

/// Redis keeps a number of 32 bits for each pair of bytes, within the limit of one string. Here a bit is enough, but
/// the time is the same, and so is the limit.
fn is_affordable(one: usize, two: usize) -> bool {
    let pairs = (one + 1).checked_mul(two + 1);
    pairs.and_then(|pairs| pairs.checked_mul(size_of::<u32>())).is_some_and(|bytes| bytes <= BULK_BYTES_MAX)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keeps {
    Length,
    Way,
}

/// How long the longest common subsequences are, and the way along which one is found.
struct Table {
    length: usize,
    /// For each pair of bytes a bit: whether it is shorter without the second string's byte than without the first's.
    goes_up: Vec<u64>,
    words_a_row: usize,
}

/// Bytes that are next to each other in both strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Match {
    one: usize,
    two: usize,
    length: usize,
}

impl Table {
    fn fill(one: &[u8], two: &[u8], keeps: Keeps) -> Self {
        let words_a_row = two.len().div_ceil(64);
        let mut goes_up = match keeps {
            Keeps::Length => Vec::new(),
            Keeps::Way => vec![0_u64; one.len() * words_a_row],
        };
        // One row is enough: above is what the row had before, left what it has got, and across is what was above left.
        let mut row = vec![0_u32; two.len()];
        let mut ways = goes_up.chunks_exact_mut(words_a_row.max(1));
        for byte in one {
            let (mut across, mut left) = (0, 0);
            let mut way = ways.next().unwrap_or_default().iter_mut();
            for (cells, bytes) in row.chunks_mut(64).zip(two.chunks(64)) {
                let mut word = 0_u64;
                for (place, (cell, other)) in cells.iter_mut().zip(bytes).enumerate() {
                    let above = *cell;
                    word |= u64::from(above > left) << place;
                    *cell = if byte == other { across + 1 } else { above.max(left) };
                    (across, left) = (above, *cell);
                }
                if let Some(slot) = way.next() {
                    *slot = word;
                }
            }
        }
        let length = row.last().map_or(0, |length| *length as usize);
        Self { length, goes_up, words_a_row }
    }

    /// The pairs of places whose bytes make the subsequence, from the last to the first.
    fn pairs<'a>(&'a self, one: &'a [u8], two: &'a [u8]) -> impl Iterator<Item = (usize, usize)> + use<'a> {
        let (mut first, mut second) = (one.len(), two.len());
        std::iter::from_fn(move || {
            while let (Some(i), Some(j)) = (first.checked_sub(1), second.checked_sub(1)) {
                if one.get(i) == two.get(j) {
                    (first, second) = (i, j);
                    return Some((i, j));
                }
                let word = self.goes_up.get(i * self.words_a_row + j / 64).copied().unwrap_or(0);
                if word >> (j % 64) & 1 == 1 { first = i } else { second = j }
            }
            None
        })
    }

    fn subsequence(&self, one: &[u8], two: &[u8]) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.pairs(one, two).filter_map(|(i, _)| one.get(i).copied()).collect();
        bytes.reverse();
        bytes
    }

    /// The subsequence in runs, from the last to the first.
    fn matches(&self, one: &[u8], two: &[u8]) -> Vec<Match> {
        let mut matches: Vec<Match> = Vec::new();
        for (i, j) in self.pairs(one, two) {
            match matches.last_mut() {
                Some(last) if last.one == i + 1 && last.two == j + 1 => {
                    *last = Match { one: i, two: j, length: last.length + 1 };
                }
                _ => matches.push(Match { one: i, two: j, length: 1 }),
            }
        }
        matches
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// With the whole table of numbers, as Redis does it.
    fn slow(one: &[u8], two: &[u8]) -> Vec<(usize, usize)> {
        let mut table = vec![vec![0; two.len() + 1]; one.len() + 1];
        for i in 1..=one.len() {
            for j in 1..=two.len() {
                table[i][j] = if one[i - 1] == two[j - 1] {
                    table[i - 1][j - 1] + 1
                } else {
                    table[i - 1][j].max(table[i][j - 1])
                };
            }
        }
        let (mut i, mut j, mut pairs) = (one.len(), two.len(), Vec::new());
        while i > 0 && j > 0 {
            if one[i - 1] == two[j - 1] {
                (i, j) = (i - 1, j - 1);
                pairs.push((i, j));
            } else if table[i - 1][j] > table[i][j - 1] {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        assert_eq!(pairs.len(), table[one.len()][two.len()]);
        pairs
    }

    #[test]
    fn the_example_of_redis_comes_out() {
        let (one, two) = (b"ohmytext", b"mynewtext");
        let table = Table::fill(one, two, Keeps::Way);
        assert_eq!(table.length, 6);
        assert_eq!(table.subsequence(one, two), b"mytext");
        let text = Match { one: 4, two: 5, length: 4 };
        assert_eq!(table.matches(one, two), [text, Match { one: 2, two: 0, length: 2 }]);
    }

    #[test]
    fn the_limit_is_that_of_the_table_of_redis() {
        assert!(is_affordable(0, (128 << 20) - 1) && !is_affordable(0, 128 << 20));
        assert!(!is_affordable(usize::MAX >> 1, usize::MAX >> 1));
    }

    proptest! {
        #[test]
        fn the_way_is_that_of_redis(one in proptest::collection::vec(0_u8..4, 0..150), two in proptest::collection::vec(0_u8..4, 0..150)) {
            let table = Table::fill(&one, &two, Keeps::Way);
            let pairs: Vec<_> = table.pairs(&one, &two).collect();
            prop_assert_eq!(&pairs, &slow(&one, &two));
            prop_assert_eq!(table.length, pairs.len());
            prop_assert_eq!(Table::fill(&one, &two, Keeps::Length).length, pairs.len());
        }
    }
}
