//! Values of types that are not kept: read just far enough to know where they end. No length among them is believed, only
//! walked.

use super::string::{read_number, skip_string};
use super::{RdbError, Source};

/// What the value of a type is made of.
enum Shape {
    /// One string that holds it all.
    Blob,
    /// A count, then so many of each.
    Many(&'static [Part]),
    /// Eight bytes, then a blob or a count.
    Timed(&'static Shape),
    Stream {
        version: u8,
    },
    Module,
}

#[derive(Clone, Copy)]
enum Part {
    Text,
    /// A number as text, by a length of its own kind.
    Decimal,
    Double,
    Length,
}

/// The name of a type, and how its value is laid out.
fn shape(number: u8) -> Option<(&'static str, Shape)> {
    use Part::{Decimal, Double, Length, Text};
    Some(match number {
        1 | 14 => ("list", Shape::Many(&[Text])),
        2 => ("set", Shape::Many(&[Text])),
        3 => ("zset", Shape::Many(&[Text, Decimal])),
        4 => ("hash", Shape::Many(&[Text, Text])),
        5 => ("zset", Shape::Many(&[Text, Double])),
        7 => ("module", Shape::Module),
        9 | 13 | 16 | 23 => ("hash", Shape::Blob),
        10 => ("list", Shape::Blob),
        11 | 20 => ("set", Shape::Blob),
        12 | 17 => ("zset", Shape::Blob),
        15 => ("stream", Shape::Stream { version: 1 }),
        18 => ("list", Shape::Many(&[Length, Text])),
        19 => ("stream", Shape::Stream { version: 2 }),
        21 => ("stream", Shape::Stream { version: 3 }),
        22 => ("hash", Shape::Many(&[Length, Text, Text])),
        24 => ("hash", Shape::Timed(&Shape::Many(&[Length, Text, Text]))),
        25 => ("hash", Shape::Timed(&Shape::Blob)),
        _ => return None,
    })
}

/// The name of a type other than a string.
pub(super) fn type_name(number: u8) -> Option<&'static str> {
    shape(number).map(|(name, _)| name)
}

/// Passes over the value of a type other than a string; the type's name.
pub(super) fn skip_value<S: Source>(source: &mut S, number: u8) -> Result<&'static str, S::Error> {
    let (name, shape) = shape(number).ok_or(RdbError::Type(number))?;
    skip(source, &shape)?;
    Ok(name)
}

fn skip<S: Source>(source: &mut S, shape: &Shape) -> Result<(), S::Error> {
    match shape {
        Shape::Blob => skip_string(source),
        Shape::Many(parts) => {
            many(source, |source| parts.iter().try_for_each(|part| skip_part(source, *part)))
        }
        Shape::Timed(inner) => {
            source.skip(8)?;
            skip(source, inner)
        }
        Shape::Stream { version } => skip_stream(source, *version),
        Shape::Module => {
            read_number(source)?;
            skip_module(source)
        }
    }
}

/// A count, then so many. Each takes a byte at least, so a count that is a lie ends with the input.
fn many<S: Source>(
    source: &mut S,
    mut one: impl FnMut(&mut S) -> Result<(), S::Error>,
) -> Result<(), S::Error> {
    let count = read_number(source)?;
    (0..count).try_for_each(|_| one(source))
}

fn skip_part<S: Source>(source: &mut S, part: Part) -> Result<(), S::Error> {
    match part {
        Part::Text => skip_string(source),
        Part::Double => source.skip(8),
        Part::Length => read_number(source).map(drop),
        Part::Decimal => match source.array::<1>()?[0] {
            // Not a number and the two infinities.
            253..=255 => Ok(()),
            length => source.skip(length.into()),
        },
    }
}

fn skip_stream<S: Source>(source: &mut S, version: u8) -> Result<(), S::Error> {
    let lengths = |source: &mut S, count: u8| (0..count).try_for_each(|_| read_number(source).map(drop));
    // Blocks of entries: the first id, then the entries.
    many(source, |source| {
        skip_string(source)?;
        skip_string(source)
    })?;
    // How many entries; the last id. Later also the first id, the largest deleted id, how many were ever added.
    lengths(source, if version >= 2 { 8 } else { 3 })?;
    many(source, |source| {
        // A group: its name, the last id it was given, later how many it has read.
        skip_string(source)?;
        lengths(source, if version >= 2 { 3 } else { 2 })?;
        // What is not acknowledged: id, time, count.
        many(source, |source| {
            source.skip(16 + 8)?;
            lengths(source, 1)
        })?;
        many(source, |source| {
            // A consumer: its name, when it was seen, later when it was active, the ids it has not acknowledged.
            skip_string(source)?;
            source.skip(if version >= 3 { 16 } else { 8 })?;
            many(source, |source| source.skip(16))
        })
    })
}

/// What a module has written, behind its id: values that each say what they are.
pub(super) fn skip_module<S: Source>(source: &mut S) -> Result<(), S::Error> {
    loop {
        match read_number(source)? {
            0 => return Ok(()),
            1 | 2 => read_number(source).map(drop)?,
            3 => source.skip(4)?,
            4 => source.skip(8)?,
            5 => skip_string(source)?,
            _ => return Err(RdbError::Module.into()),
        }
    }
}
