//! Decimal fractions, added digit by digit: 0.1 and 0.2 make 0.3.
//!
//! Redis adds in the floating point of the machine, with about 19 digits, and writes 17 of them behind the point. Here
//! a sum is exact, and then rounded to 17 digits behind the point as well. What can be written is bounded as in Redis:
//! 5119 characters, and numbers from 1e-4951 to below 1e4932. So a sum has fewer than 15,000 digits.

/// Characters of a number: as many as Redis reads.
const TEXT_BYTES_MAX: usize = 5 * 1024 - 1;

/// Numbers are below ten to this.
const POWER_END: i64 = 4932;

/// Numbers that are not zero are not below ten to this.
const POWER_MIN: i64 = -4951;

/// Digits behind the point of a result.
const PLACES: i64 = 17;

/// A decimal number, or one of the two infinities, which can be read but not be added to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decimal {
    Finite {
        is_negative: bool,
        /// From the smallest to the largest, which is not 0. None for zero.
        digits: Vec<u8>,
        /// The power of ten of the smallest digit.
        power: i64,
    },
    Infinite,
}

impl Decimal {
    /// Reads what C's `strtold` reads, but for hexadecimal digits and what is no number.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        if text.is_empty() || text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let (is_negative, rest) = split_sign(text);
        if rest.eq_ignore_ascii_case(b"inf") || rest.eq_ignore_ascii_case(b"infinity") {
            return Some(Self::Infinite);
        }
        let exponent_at = rest.iter().position(|byte| matches!(byte, b'e' | b'E'));
        let (mantissa, exponent) = match exponent_at.and_then(|at| rest.split_at_checked(at)) {
            Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent.get(1..)?)?),
            None => (rest, 0),
        };
        let point_at = mantissa.iter().position(|byte| *byte == b'.');
        let (whole, fraction) = match point_at.and_then(|at| mantissa.split_at_checked(at)) {
            Some((whole, fraction)) => (whole, fraction.get(1..)?),
            None => (mantissa, &[][..]),
        };
        let all_digits = whole.iter().chain(fraction).all(u8::is_ascii_digit);
        if !all_digits || whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let digits = fraction.iter().rev().chain(whole.iter().rev()).map(|digit| digit - b'0').collect();
        let power = exponent.saturating_sub(i64::try_from(fraction.len()).ok()?);
        let number = Self::normal(is_negative, digits, power);
        number.is_in_range().then_some(number)
    }

    /// The number without zeros at both ends.
    fn normal(is_negative: bool, mut digits: Vec<u8>, power: i64) -> Self {
        let kept = digits.iter().rposition(|digit| *digit != 0).map_or(0, |last| last + 1);
        digits.truncate(kept);
        let zeros = digits.iter().position(|digit| *digit != 0).unwrap_or(0);
        digits.drain(..zeros);
        if digits.is_empty() {
            return Self::Finite { is_negative: false, digits, power: 0 };
        }
        Self::Finite { is_negative, digits, power: power.saturating_add(length(zeros)) }
    }

    fn is_in_range(&self) -> bool {
        match self {
            Self::Infinite => false,
            Self::Finite { digits, .. } if digits.is_empty() => true,
            Self::Finite { digits, power, .. } => {
                (POWER_MIN..POWER_END).contains(&power.saturating_add(length(digits.len()) - 1))
            }
        }
    }

    /// The sum; `None` when it is no number, or too large.
    pub(crate) fn plus(&self, other: &Self) -> Option<Self> {
        let (Self::Finite { power: one, .. }, Self::Finite { power: two, .. }) = (self, other) else {
            return None;
        };
        let power = *one.min(two);
        let places = usize::try_from(self.end().max(other.end()) - power).ok()?;
        let mut columns = vec![0_i8; places];
        self.add_to(&mut columns, power);
        other.add_to(&mut columns, power);
        // A negative sum is the positive one with all signs turned.
        let is_negative = carry_is_negative(&columns);
        if is_negative {
            for column in &mut columns {
                *column = -*column;
            }
        }
        let sum = Self::normal(is_negative, carried(&columns), power);
        let Self::Finite { digits, power, .. } = &sum else { return None };
        (power.saturating_add(length(digits.len())) <= POWER_END).then_some(sum)
    }

    /// The power of ten behind the largest digit.
    fn end(&self) -> i64 {
        match self {
            Self::Finite { digits, power, .. } => power + length(digits.len()),
            Self::Infinite => 0,
        }
    }

    /// Adds the digits with their sign to columns, of which the first has this power of ten.
    fn add_to(&self, columns: &mut [i8], first: i64) {
        let Self::Finite { is_negative, digits, power } = self else { return };
        let skipped = usize::try_from(power - first).unwrap_or(usize::MAX);
        for (column, digit) in columns.iter_mut().skip(skipped).zip(digits) {
            // A digit is below 10.
            let digit = digit.cast_signed();
            *column += if *is_negative { -digit } else { digit };
        }
    }

    /// In plain digits, at most 17 of them behind the point, without zeros at the end. `None` for an infinity.
    pub(crate) fn to_text(&self) -> Option<String> {
        let rounded = self.rounded()?;
        let Self::Finite { is_negative, digits, power } = &rounded else { return None };
        let digit_at = |place: i64| {
            let index = usize::try_from(place - power).ok();
            char::from(b'0' + index.and_then(|index| digits.get(index)).copied().unwrap_or(0))
        };
        let mut text = String::new();
        if *is_negative {
            text.push('-');
        }
        text.extend((0..rounded.end().max(1)).rev().map(digit_at));
        if *power < 0 {
            text.push('.');
            text.extend((*power..0).rev().map(digit_at));
        }
        Some(text)
    }

    /// Rounded to 17 digits behind the point; the exact middle goes to the even digit.
    fn rounded(&self) -> Option<Self> {
        let Self::Finite { is_negative, digits, power } = self else { return None };
        let dropped = usize::try_from(-PLACES - power).unwrap_or(0);
        if dropped == 0 {
            return Some(self.clone());
        }
        let kept: Vec<u8> = digits.iter().skip(dropped).copied().collect();
        let first_dropped = digits.get(dropped - 1).copied().unwrap_or(0);
        let has_rest = digits.iter().take(dropped - 1).any(|digit| *digit != 0);
        let is_odd = kept.first().is_some_and(|digit| digit % 2 == 1);
        let kept = Self::normal(*is_negative, kept, -PLACES);
        if first_dropped > 5 || first_dropped == 5 && (has_rest || is_odd) {
            let step = Self::Finite { is_negative: *is_negative, digits: vec![1], power: -PLACES };
            return kept.plus(&step);
        }
        Some(kept)
    }
}

fn length(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Whether there is a minus, and what stands behind the sign.
fn split_sign(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [sign @ (b'-' | b'+'), rest @ ..] => (*sign == b'-', rest),
        rest => (false, rest),
    }
}

/// An exponent, as far as it matters: what is beyond a million is beyond every number.
fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (is_negative, digits) = split_sign(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let exponent =
        digits.iter().fold(0, |exponent, digit| (exponent * 10 + i64::from(digit - b'0')).min(1_000_000));
    Some(if is_negative { -exponent } else { exponent })
}

/// Whether the columns make a negative number: what is carried out of the last one says so.
fn carry_is_negative(columns: &[i8]) -> bool {
    columns.iter().fold(0_i8, |carry, column| (column + carry).div_euclid(10)) < 0
}

/// The digits that the columns make.
fn carried(columns: &[i8]) -> Vec<u8> {
    let mut carry = 0_i8;
    let mut digits: Vec<u8> = columns
        .iter()
        .map(|column| {
            let sum = column + carry;
            carry = sum.div_euclid(10);
            sum.rem_euclid(10).cast_unsigned()
        })
        .collect();
    digits.push(carry.max(0).cast_unsigned());
    digits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(one: &str, two: &str) -> Option<String> {
        Decimal::parse(one.as_bytes()).unwrap().plus(&Decimal::parse(two.as_bytes()).unwrap())?.to_text()
    }

    #[test]
    fn a_tenth_and_two_tenths_are_three() {
        for (one, two, expected) in [
            ("0.1", "0.2", "0.3"),
            ("10.50", "0.1", "10.6"),
            ("10.6", "-5", "5.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("1", "-1", "0"),
            ("-1", "0.5", "-0.5"),
            ("0.5", "-1", "-0.5"),
            ("3", "-1000", "-997"),
            ("99", "1", "100"),
            ("-99", "-1", "-100"),
            ("0", "-0", "0"),
            ("1e20", "1", "100000000000000000001"),
            ("1e-17", "0", "0.00000000000000001"),
            ("1e-18", "0", "0"),
            ("-1e-18", "0", "0"),
            ("6e-18", "0", "0.00000000000000001"),
            ("5e-18", "0", "0"),
            ("15e-18", "0", "0.00000000000000002"),
            ("0.99999999999999999", "6e-18", "1"),
            (".5", "5.", "5.5"),
            ("+1", "1E+2", "101"),
        ] {
            assert_eq!(sum(one, two).as_deref(), Some(expected), "{one} + {two}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        let long = "1".repeat(TEXT_BYTES_MAX + 1);
        for text in [
            "",
            " 1",
            "1 ",
            "1e",
            "1e+",
            "e1",
            ".",
            "-",
            "+-1",
            "1.2.3",
            "1e1.5",
            "nan",
            "NaN",
            "abc",
            "0x10",
            "1\0",
            "1e4932",
            "1e-4952",
            "1e99999999999999999999",
            "1,5",
            &long,
        ] {
            assert_eq!(Decimal::parse(text.as_bytes()), None, "{text:?}");
        }
        assert!(Decimal::parse(&long.as_bytes()[..4932]).is_some());
        assert!(Decimal::parse(b"0e99999999999999999999").is_some());
        for infinity in ["inf", "-Infinity", "+INF"] {
            assert_eq!(sum(infinity, "1"), None);
        }
        assert_eq!(sum("9.9e4931", "1e4931"), None);
    }

    #[test]
    fn the_longest_sum_is_bounded() {
        let tiny = format!("0.{}1", "0".repeat(4940));
        assert_eq!(sum("9e4931", &tiny).unwrap().len(), 4932);
        assert_eq!(sum("1e4931", "-1e-17").unwrap(), format!("{}.{}", "9".repeat(4931), "9".repeat(17)));
    }

    proptest! {
        #[test]
        fn sums_are_those_of_integers(one: i64, two: i64, places in 0_u32..17) {
            let unit = 10_i128.pow(places);
            let write = |number: i128| format!("{number}e-{places}");
            let expected = i128::from(one) + i128::from(two);
            let text = sum(&write(one.into()), &write(two.into())).unwrap();
            let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
            prop_assert!(!fraction.ends_with('0'));
            let fraction = format!("{fraction:0<width$}", width = places as usize);
            let sign = if text.starts_with('-') { -1 } else { 1 };
            let whole = whole.trim_start_matches('-').parse::<i128>().unwrap() * unit;
            let fraction = if fraction.is_empty() { 0 } else { fraction.parse::<i128>().unwrap() };
            prop_assert_eq!(sign * (whole + fraction), expected);
        }

        #[test]
        fn any_text_ends_in_a_bounded_sum_or_none(one in "[-+]?[0-9.]{0,6}(e[-+]?[0-9]{0,5})?", two in "-?[0-9]{1,9}") {
            if let Some(one) = Decimal::parse(one.as_bytes())
                && let Some(sum) = one.plus(&Decimal::parse(two.as_bytes()).unwrap())
            {
                prop_assert!(sum.to_text().unwrap().len() < TEXT_BYTES_MAX);
            }
        }
    }
}
