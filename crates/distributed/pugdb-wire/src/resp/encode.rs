//! Writing: replies for RESP2 and RESP3 clients, and requests for servers.

use bytes::{BufMut, BytesMut};

use super::line::CRLF;
use super::{Protocol, Reply};

/// Bytes that a type, a length and the line ends take at most.
const FRAME_BYTES: usize = 1 + DECIMAL_BYTES + 2 * CRLF.len();

/// Bytes of the longest 64-bit number: `-9223372036854775808` and `18446744073709551615`.
const DECIMAL_BYTES: usize = 20;

/// Whole numbers up to here are written as integers, as Redis does: half of `i64::MAX`, as a double.
const INTEGRAL_MAX: f64 = 4_611_686_018_427_387_904.0;

/// Appends a command in the form that a server reads: an array of bulk strings. Without arguments it is an empty
/// array, which a server skips.
///
/// ```
/// use bytes::BytesMut;
/// use pugdb_wire::resp::encode_request;
///
/// let mut out = BytesMut::new();
/// encode_request(&["GET", "pug"], &mut out);
/// assert_eq!(out, "*2\r\n$3\r\nGET\r\n$3\r\npug\r\n");
/// ```
pub fn encode_request(arguments: &[impl AsRef<[u8]>], out: &mut BytesMut) {
    put_header(b'*', arguments.len(), out);
    for argument in arguments {
        put_bulk(argument.as_ref(), out);
    }
}

impl Reply {
    /// Appends this value as a client of that protocol reads it.
    ///
    /// A RESP2 client gets maps, sets and pushes as arrays, doubles, big numbers and verbatim texts as strings,
    /// booleans as 1 and 0. A line end inside a simple string, an error or a big number would end the value early
    /// and let its rest be read as a reply of its own; it becomes a space.
    ///
    /// ```
    /// use bytes::BytesMut;
    /// use pugdb_wire::resp::{Protocol, Reply};
    ///
    /// let mut out = BytesMut::new();
    /// Reply::error("ERR unknown command 'x\r\n+OK'").encode(Protocol::Resp2, &mut out);
    /// assert_eq!(out, "-ERR unknown command 'x  +OK'\r\n");
    /// ```
    pub fn encode(&self, protocol: Protocol, out: &mut BytesMut) {
        let resp3 = protocol == Protocol::Resp3;
        match self {
            Self::Simple(text) => put_line(b'+', text, out),
            Self::Error(message) => put_line(b'-', message, out),
            Self::Integer(number) => put_integer(*number, out),
            Self::Bulk(bytes) => put_bulk(bytes, out),
            Self::Null | Self::NullArray if resp3 => out.put_slice(b"_\r\n"),
            Self::Null => out.put_slice(b"$-1\r\n"),
            Self::NullArray => out.put_slice(b"*-1\r\n"),
            Self::Array(values) => put_values(b'*', values, protocol, out),
            Self::Set(values) => put_values(if resp3 { b'~' } else { b'*' }, values, protocol, out),
            Self::Push(values) => put_values(if resp3 { b'>' } else { b'*' }, values, protocol, out),
            Self::Map(pairs) => put_pairs(pairs, protocol, out),
            Self::Double(number) if resp3 => put_line(b',', &double_text(*number), out),
            Self::Double(number) => put_bulk(double_text(*number).as_bytes(), out),
            Self::Boolean(true) => out.put_slice(if resp3 { b"#t\r\n" } else { b":1\r\n" }),
            Self::Boolean(false) => out.put_slice(if resp3 { b"#f\r\n" } else { b":0\r\n" }),
            Self::BigNumber(digits) if resp3 => put_line(b'(', digits, out),
            Self::BigNumber(digits) => put_bulk(digits.as_bytes(), out),
            Self::Verbatim { format, text } if resp3 => put_verbatim(*format, text, out),
            Self::Verbatim { text, .. } => put_bulk(text, out),
        }
    }
}

fn put_values(kind: u8, values: &[Reply], protocol: Protocol, out: &mut BytesMut) {
    put_header(kind, values.len(), out);
    for value in values {
        value.encode(protocol, out);
    }
}

fn put_pairs(pairs: &[(Reply, Reply)], protocol: Protocol, out: &mut BytesMut) {
    match protocol {
        Protocol::Resp2 => put_header(b'*', pairs.len() * 2, out),
        Protocol::Resp3 => put_header(b'%', pairs.len(), out),
    }
    for (key, value) in pairs {
        key.encode(protocol, out);
        value.encode(protocol, out);
    }
}

fn put_verbatim(format: [u8; 3], text: &[u8], out: &mut BytesMut) {
    out.reserve(text.len() + format.len() + 1 + FRAME_BYTES);
    put_header(b'=', text.len() + format.len() + 1, out);
    out.put_slice(&format);
    out.put_u8(b':');
    out.put_slice(text);
    out.put_slice(CRLF);
}

fn put_bulk(bytes: &[u8], out: &mut BytesMut) {
    out.reserve(bytes.len() + FRAME_BYTES);
    put_header(b'$', bytes.len(), out);
    out.put_slice(bytes);
    out.put_slice(CRLF);
}

fn put_line(kind: u8, text: &str, out: &mut BytesMut) {
    out.reserve(text.len() + FRAME_BYTES);
    out.put_u8(kind);
    let start = out.len();
    out.put_slice(text.as_bytes());
    for byte in out.iter_mut().skip(start).filter(|byte| matches!(byte, b'\r' | b'\n')) {
        *byte = b' ';
    }
    out.put_slice(CRLF);
}

fn put_header(kind: u8, length: usize, out: &mut BytesMut) {
    out.put_u8(kind);
    put_decimal(length as u64, out);
    out.put_slice(CRLF);
}

fn put_integer(number: i64, out: &mut BytesMut) {
    out.put_u8(b':');
    if number < 0 {
        out.put_u8(b'-');
    }
    put_decimal(number.unsigned_abs(), out);
    out.put_slice(CRLF);
}

fn put_decimal(mut number: u64, out: &mut BytesMut) {
    let mut digits = [b'0'; DECIMAL_BYTES];
    let mut used = 0;
    // Back to front; a zero has the one digit that stands there already.
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        used += 1;
        if number == 0 {
            break;
        }
    }
    out.put_slice(digits.get(DECIMAL_BYTES - used..).unwrap_or_default());
}

/// The shortest text that reads back as the same number, plain or scientific by the rule of Redis (`d2string`):
/// whole numbers plain, others plain unless they have many digits behind the point.
#[expect(clippy::cast_possible_truncation, reason = "whole and below 2^62")]
fn double_text(number: f64) -> String {
    if number.is_nan() {
        return "nan".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.into();
    }
    if number.fract() == 0.0 && number != 0.0 && number.abs() <= INTEGRAL_MAX {
        return (number as i64).to_string();
    }
    let scientific = format!("{number:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).count();
    if is_plain(i64::try_from(digits).unwrap_or(1), exponent.parse().unwrap_or(0)) {
        number.to_string()
    } else if exponent.starts_with('-') {
        scientific
    } else {
        format!("{mantissa}e+{exponent}")
    }
}

/// Whether a number of so many digits, the first of them worth ten to the `exponent`, is written without `e`.
fn is_plain(digits: i64, exponent: i64) -> bool {
    let last = exponent - (digits - 1);
    if last >= 0 { exponent < digits + 7 } else { last > -7 || exponent.abs() < 4 }
}
