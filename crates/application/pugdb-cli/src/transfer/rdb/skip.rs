//! Values of types that are not kept: read just far enough to know where they end. No length among them is believed, only
//! walked.

use super::reader::{RdbError, Reader};

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

/// Passes over the value of a type other than a string; the type's name.
pub(super) fn skip_value(reader: &mut Reader<'_>, number: u8) -> Result<&'static str, RdbError> {
    let (name, shape) = shape(number).ok_or(RdbError::Type(number))?;
    skip(reader, &shape)?;
    Ok(name)
}

fn skip(reader: &mut Reader<'_>, shape: &Shape) -> Result<(), RdbError> {
    match shape {
        Shape::Blob => reader.skip_text(),
        Shape::Many(parts) => {
            many(reader, |reader| parts.iter().try_for_each(|part| skip_part(reader, *part)))
        }
        Shape::Timed(inner) => {
            reader.skip(8)?;
            skip(reader, inner)
        }
        Shape::Stream { version } => skip_stream(reader, *version),
        Shape::Module => {
            reader.length()?;
            skip_module(reader)
        }
    }
}

/// A count, then so many. Each takes a byte at least, so a count that is a lie ends with the input.
fn many(
    reader: &mut Reader<'_>,
    mut one: impl FnMut(&mut Reader<'_>) -> Result<(), RdbError>,
) -> Result<(), RdbError> {
    let count = reader.length()?;
    (0..count).try_for_each(|_| one(reader))
}

fn skip_part(reader: &mut Reader<'_>, part: Part) -> Result<(), RdbError> {
    match part {
        Part::Text => reader.skip_text(),
        Part::Double => reader.skip(8),
        Part::Length => reader.length().map(drop),
        Part::Decimal => match reader.u8()? {
            // Not a number and the two infinities.
            253..=255 => Ok(()),
            length => reader.skip(length.into()),
        },
    }
}

fn skip_stream(reader: &mut Reader<'_>, version: u8) -> Result<(), RdbError> {
    let lengths = |reader: &mut Reader<'_>, count: u8| (0..count).try_for_each(|_| reader.length().map(drop));
    // Blocks of entries: the first id, then the entries.
    many(reader, |reader| {
        reader.skip_text()?;
        reader.skip_text()
    })?;
    // How many entries; the last id. Later also the first id, the largest deleted id, how many were ever added.
    lengths(reader, if version >= 2 { 8 } else { 3 })?;
    many(reader, |reader| {
        // A group: its name, the last id it was given, later how many it has read.
        reader.skip_text()?;
        lengths(reader, if version >= 2 { 3 } else { 2 })?;
        // What is not acknowledged: id, time, count.
        many(reader, |reader| {
            reader.skip(16 + 8)?;
            lengths(reader, 1)
        })?;
        many(reader, |reader| {
            // A consumer: its name, when it was seen, later when it was active, the ids it has not acknowledged.
            reader.skip_text()?;
            reader.skip(if version >= 3 { 16 } else { 8 })?;
            many(reader, |reader| reader.skip(16))
        })
    })
}

/// What a module has written, behind its id: values that each say what they are.
pub(super) fn skip_module(reader: &mut Reader<'_>) -> Result<(), RdbError> {
    loop {
        match reader.length()? {
            0 => return Ok(()),
            1 | 2 => reader.length().map(drop)?,
            3 => reader.skip(4)?,
            4 => reader.skip(8)?,
            5 => reader.skip_text()?,
            _ => return Err(RdbError::Spelling("a module's value has an unknown part")),
        }
    }
}
