//! Calls over the session's D-Bus, one after the other: as much of its specification (0.43) as the Secret Service needs. Messages may hold secrets,
//! so they are overwritten when they are dropped.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use pugdb_core::{Error, Result};
use zeroize::Zeroizing;

/// Who is called may have to be started first, and some wait for a person.
const ANSWER_SECONDS_MAX: u64 = 30;
/// Longer messages are not for us.
const FIELDS_BYTES_MAX: usize = 64 << 10;
const BODY_BYTES_MAX: usize = 1 << 20;
/// Messages of other kinds that may come before an answer.
const STRAY_MESSAGES_MAX: usize = 10_000;
/// A body has room for this, and does not grow: that would leave copies behind.
const CALL_BYTES_MAX: usize = 4096;
const LINE_BYTES_MAX: usize = 1024;

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;

/// A connection to the session's bus.
pub(super) struct Bus {
    stream: UnixStream,
    serial: u32,
}

/// Why a call has no answer.
pub(super) enum Failure {
    /// The name of the error that came instead.
    Said(String),
    Io(io::Error),
    /// The answer is not what it should be.
    Garbled,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Whom to call.
#[derive(Clone, Copy)]
pub(super) struct Method<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) name: &'a str,
}

impl Bus {
    /// The bus that the environment names.
    pub(super) fn session() -> Result<Self> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let places = match set("DBUS_SESSION_BUS_ADDRESS") {
            Some(addresses) => places(addresses.as_bytes()),
            None => set("XDG_RUNTIME_DIR")
                .map(|dir| Place::Path(PathBuf::from(dir).join("bus")))
                .into_iter()
                .collect(),
        };
        let mut refused = String::new();
        for place in places {
            match Self::connect(&place) {
                Ok(bus) => return Ok(bus),
                Err(Failure::Io(error)) => refused = format!(" ({error})"),
                Err(_) => " (it refuses us)".clone_into(&mut refused),
            }
        }
        Err(Error::unavailable(format!(
            "no D-Bus of a session can be reached{refused}, and through it the login keyring: run this in a session of the user, or under \
             `dbus-run-session`; for a service take another root key, as file:PATH"
        )))
    }

    fn connect(place: &Place) -> std::result::Result<Self, Failure> {
        let stream = match place {
            Place::Path(path) => UnixStream::connect(path)?,
            Place::Abstract(name) => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        };
        let limit = Some(Duration::from_secs(ANSWER_SECONDS_MAX));
        stream.set_read_timeout(limit)?;
        stream.set_write_timeout(limit)?;
        let mut bus = Self { stream, serial: 0 };
        bus.log_in()?;
        let hello = Method {
            destination: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            name: "Hello",
        };
        bus.call(hello, &Body::new(""))?;
        Ok(bus)
    }

    /// The bus asks the kernel who we are, so there is nothing to say about that.
    fn log_in(&mut self) -> std::result::Result<(), Failure> {
        self.stream.write_all(b"\0AUTH EXTERNAL\r\n")?;
        if !self.line()?.starts_with(b"DATA") {
            return Err(Failure::Garbled);
        }
        self.stream.write_all(b"DATA\r\n")?;
        if !self.line()?.starts_with(b"OK ") {
            return Err(Failure::Garbled);
        }
        Ok(self.stream.write_all(b"BEGIN\r\n")?)
    }

    /// Byte by byte: what is behind it is not ours to read yet.
    fn line(&mut self) -> std::result::Result<Vec<u8>, Failure> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            line.push(byte[0]);
            if line.len() > LINE_BYTES_MAX {
                return Err(Failure::Garbled);
            }
        }
        Ok(line)
    }

    /// The answer to a call.
    pub(super) fn call(&mut self, method: Method<'_>, body: &Body) -> std::result::Result<Answer, Failure> {
        self.serial += 1;
        self.stream.write_all(&encode(self.serial, method, body))?;
        for _ in 0..STRAY_MESSAGES_MAX {
            let message = Message::read(&mut self.stream)?;
            if message.reply_to != Some(self.serial) {
                continue;
            }
            match message.kind {
                METHOD_RETURN => return Ok(Answer { signature: message.signature, body: message.body }),
                ERROR => return Err(Failure::Said(message.error)),
                _ => (),
            }
        }
        Err(Failure::Garbled)
    }
}

/// Where a bus listens.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Path(PathBuf),
    Abstract(Vec<u8>),
}

/// Of a list of addresses those that we know how to reach.
fn places(addresses: &[u8]) -> Vec<Place> {
    let place = |address: &[u8]| {
        let values = address.strip_prefix(b"unix:")?;
        values.split(|byte| *byte == b',').find_map(|pair| {
            let of = |key: &[u8]| unescape(pair.strip_prefix(key)?);
            let path = of(b"path=").map(|path| Place::Path(OsString::from_vec(path).into()));
            path.or_else(|| of(b"abstract=").map(Place::Abstract))
        })
    };
    addresses.split(|byte| *byte == b';').filter_map(place).collect()
}

fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        let mut digit = || char::from(*rest.next()?).to_digit(16);
        out.push(match byte {
            b'%' => u8::try_from(digit()? * 16 + digit()?).ok()?,
            other => *other,
        });
    }
    Some(out)
}

/// What is sent with a call. It begins at a multiple of eight, so padding is counted from its begin.
pub(super) struct Body {
    signature: &'static str,
    bytes: Zeroizing<Vec<u8>>,
}

impl Body {
    pub(super) fn new(signature: &'static str) -> Self {
        Self { signature, bytes: Zeroizing::new(Vec::with_capacity(CALL_BYTES_MAX)) }
    }

    pub(super) fn align(mut self, to: usize) -> Self {
        let length = self.bytes.len().next_multiple_of(to);
        self.bytes.resize(length, 0);
        self
    }

    pub(super) fn u32(self, value: u32) -> Self {
        let mut aligned = self.align(4);
        aligned.bytes.extend_from_slice(&value.to_le_bytes());
        aligned
    }

    pub(super) fn bool(self, value: bool) -> Self {
        self.u32(value.into())
    }

    /// A string, or the path of an object.
    pub(super) fn string(self, text: &str) -> Self {
        let mut out = self.byte_array(text.as_bytes());
        out.bytes.push(0);
        out
    }

    pub(super) fn byte_array(self, bytes: &[u8]) -> Self {
        let mut out = self.u32(length(bytes.len()));
        out.bytes.extend_from_slice(bytes);
        out
    }

    /// The type of what comes next, in a variant or a field.
    pub(super) fn signature(mut self, signature: &str) -> Self {
        self.bytes.push(u8::try_from(signature.len()).expect("ours have a few letters"));
        self.bytes.extend_from_slice(signature.as_bytes());
        self.bytes.push(0);
        self
    }

    /// An array of what is aligned so, and `fill` adds.
    pub(super) fn array(self, align: usize, fill: impl FnOnce(Self) -> Self) -> Self {
        let counted = self.u32(0);
        let at = counted.bytes.len() - 4;
        let begun = counted.align(align);
        let from = begun.bytes.len();
        let mut filled = fill(begun);
        let bytes = length(filled.bytes.len() - from);
        filled.bytes[at..at + 4].copy_from_slice(&bytes.to_le_bytes());
        filled
    }

    /// A dictionary of strings.
    pub(super) fn strings(self, pairs: &[(&str, &str)]) -> Self {
        self.array(8, |body| {
            pairs.iter().fold(body, |body, (key, value)| body.align(8).string(key).string(value))
        })
    }
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("what we send is short")
}

fn encode(serial: u32, method: Method<'_>, body: &Body) -> Zeroizing<Vec<u8>> {
    let Method { destination, path, interface, name } = method;
    let mut fields = vec![(1, "o", path), (2, "s", interface), (3, "s", name), (6, "s", destination)];
    if !body.signature.is_empty() {
        fields.push((8, "g", body.signature));
    }
    let head = Body::new("");
    let mut head = head.u32(u32::from_le_bytes([b'l', METHOD_CALL, 0, 1]));
    head = head.u32(length(body.bytes.len())).u32(serial).array(8, |head| {
        fields.iter().fold(head, |head, (code, kind, value)| {
            let mut head = head.align(8);
            head.bytes.push(*code);
            let head = head.signature(kind);
            if *kind == "g" { head.signature(value) } else { head.string(value) }
        })
    });
    let head = head.align(8);
    let mut out = Zeroizing::new(Vec::with_capacity(head.bytes.len() + body.bytes.len()));
    out.extend_from_slice(&head.bytes);
    out.extend_from_slice(&body.bytes);
    out
}

/// What has come.
struct Message {
    kind: u8,
    reply_to: Option<u32>,
    error: String,
    signature: String,
    body: Zeroizing<Vec<u8>>,
}

impl Message {
    fn read(from: &mut impl io::Read) -> std::result::Result<Self, Failure> {
        let mut fixed = [0; 16];
        from.read_exact(&mut fixed)?;
        let mut reader = Reader::new(&fixed);
        let [order, kind, _, version] = *reader.take(4)?.first_chunk().ok_or(Failure::Garbled)?;
        let body = reader.length(BODY_BYTES_MAX)?;
        reader.u32()?;
        let fields = reader.length(FIELDS_BYTES_MAX)?;
        // Whoever answers is on this machine, and has its order of bytes.
        if order != b'l' || version != 1 {
            return Err(Failure::Garbled);
        }
        let mut head = vec![0; fields.next_multiple_of(8)];
        from.read_exact(&mut head)?;
        let mut message = Self {
            kind,
            reply_to: None,
            error: String::new(),
            signature: String::new(),
            body: Zeroizing::new(vec![0; body]),
        };
        from.read_exact(&mut message.body)?;
        message.read_fields(&head[..fields])?;
        Ok(message)
    }

    fn read_fields(&mut self, fields: &[u8]) -> std::result::Result<(), Failure> {
        let mut reader = Reader::new(fields);
        while !reader.is_empty() {
            reader.align(8)?;
            let code = reader.take(1)?[0];
            match reader.signature()? {
                "u" => {
                    let value = reader.u32()?;
                    if code == 5 {
                        self.reply_to = Some(value);
                    }
                }
                "s" | "o" => {
                    let value = reader.string()?;
                    if code == 4 {
                        value.clone_into(&mut self.error);
                    }
                }
                "g" => {
                    let value = reader.signature()?;
                    if code == 8 {
                        value.clone_into(&mut self.signature);
                    }
                }
                _ => return Err(Failure::Garbled),
            }
        }
        Ok(())
    }
}

/// What a call has brought.
pub(super) struct Answer {
    signature: String,
    body: Zeroizing<Vec<u8>>,
}

impl Answer {
    /// Its values, if they are of these types.
    pub(super) fn values(&self, signature: &str) -> std::result::Result<Reader<'_>, Failure> {
        if self.signature != signature {
            return Err(Failure::Garbled);
        }
        Ok(Reader::new(&self.body))
    }
}

/// Reads values from bytes that somebody else has written.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    fn take(&mut self, count: usize) -> std::result::Result<&'a [u8], Failure> {
        let end = self.at.checked_add(count).ok_or(Failure::Garbled)?;
        let taken = self.bytes.get(self.at..end).ok_or(Failure::Garbled)?;
        self.at = end;
        Ok(taken)
    }

    pub(super) fn align(&mut self, to: usize) -> std::result::Result<(), Failure> {
        self.take(self.at.next_multiple_of(to) - self.at).map(drop)
    }

    pub(super) fn u32(&mut self) -> std::result::Result<u32, Failure> {
        self.align(4)?;
        Ok(u32::from_le_bytes(*self.take(4)?.first_chunk().ok_or(Failure::Garbled)?))
    }

    fn length(&mut self, max: usize) -> std::result::Result<usize, Failure> {
        usize::try_from(self.u32()?).ok().filter(|length| *length <= max).ok_or(Failure::Garbled)
    }

    /// A string, or the path of an object.
    pub(super) fn string(&mut self) -> std::result::Result<&'a str, Failure> {
        let text = self.byte_array()?;
        self.end(text)
    }

    pub(super) fn byte_array(&mut self) -> std::result::Result<&'a [u8], Failure> {
        let length = self.length(BODY_BYTES_MAX)?;
        self.take(length)
    }

    pub(super) fn signature(&mut self) -> std::result::Result<&'a str, Failure> {
        let length = self.take(1)?[0];
        let text = self.take(length.into())?;
        self.end(text)
    }

    fn end(&mut self, text: &'a [u8]) -> std::result::Result<&'a str, Failure> {
        match self.take(1)? {
            [0] => std::str::from_utf8(text).map_err(|_| Failure::Garbled),
            _ => Err(Failure::Garbled),
        }
    }

    /// The values of an array whose elements are aligned so.
    pub(super) fn array(&mut self, align: usize) -> std::result::Result<Reader<'a>, Failure> {
        let length = self.length(BODY_BYTES_MAX)?;
        self.align(align)?;
        let begin = self.at;
        self.take(length)?;
        // From the begin of all, so that they are aligned as they were written.
        Ok(Reader { bytes: &self.bytes[..self.at], at: begin })
    }

    /// An array of paths.
    pub(super) fn paths(&mut self) -> std::result::Result<Vec<String>, Failure> {
        let mut paths = self.array(4)?;
        let mut out = Vec::new();
        while !paths.is_empty() {
            out.push(paths.string()?.to_owned());
        }
        Ok(out)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What is neither a call nor an answer.
    pub(in super::super) const SIGNAL: u8 = 4;

    /// A bus that has said all of this before it is asked.
    pub(in super::super) fn bus_that_says(messages: &[Vec<u8>]) -> (Bus, UnixStream) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(&messages.concat()).unwrap();
        // It listens for ever, and says no more.
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        (Bus { stream: ours, serial: 0 }, theirs)
    }

    /// A message that answers a call, by an error or by values.
    pub(in super::super) fn message(kind: u8, call: u32, error: &str, body: &Body) -> Vec<u8> {
        let head = Body::new("").u32(u32::from_le_bytes([b'l', kind, 0, 1]));
        let head = head.u32(length(body.bytes.len())).u32(99).array(8, |mut head| {
            head.bytes.push(5);
            let mut head = head.signature("u").u32(call).align(8);
            head.bytes.push(4);
            let mut head = head.signature("s").string(error).align(8);
            head.bytes.push(8);
            head.signature("g").signature(body.signature)
        });
        [&head.align(8).bytes[..], &body.bytes].concat()
    }

    pub(in super::super) fn answer(call: u32, body: &Body) -> Vec<u8> {
        message(METHOD_RETURN, call, "", body)
    }

    pub(in super::super) fn error(call: u32, name: &str) -> Vec<u8> {
        message(ERROR, call, name, &Body::new(""))
    }

    const METHOD: Method<'static> =
        Method { destination: "org.example", path: "/a", interface: "org.example.I", name: "Do" };

    fn body() -> Body {
        Body::new("sa{ss}ayb")
            .string("ä")
            .strings(&[("one", "1"), ("three", "")])
            .byte_array(&[1, 2])
            .bool(true)
    }

    #[test]
    fn a_call_is_laid_out_as_the_specification_has_it() {
        let call = encode(1, METHOD, &Body::new("s").string("hi"));
        let expected = [
            b"l\x01\0\x01\x07\0\0\0\x01\0\0\0".as_slice(),
            b"\x57\0\0\0",
            b"\x01\x01o\0\x02\0\0\0/a\0\0\0\0\0\0",
            b"\x02\x01s\0\x0d\0\0\0org.example.I\0\0\0",
            b"\x03\x01s\0\x02\0\0\0Do\0\0\0\0\0\0",
            b"\x06\x01s\0\x0b\0\0\0org.example\0\0\0\0\0",
            b"\x08\x01g\0\x01s\0\0",
            b"\x02\0\0\0hi\0",
        ];
        assert_eq!(call.as_slice(), expected.concat());
    }

    #[test]
    fn what_is_written_is_read_and_of_what_is_cut_or_changed_nothing_is_believed_blindly() {
        let bytes = answer(7, &body());
        let message = Message::read(&mut &bytes[..]).ok().unwrap();
        let read = Answer { signature: message.signature, body: message.body };
        let mut values = read.values("sa{ss}ayb").ok().unwrap();
        assert_eq!(values.string().ok(), Some("ä"));
        let mut pairs = values.array(8).ok().unwrap();
        let mut found = Vec::new();
        while !pairs.is_empty() {
            pairs.align(8).ok().unwrap();
            found.push((pairs.string().ok().unwrap(), pairs.string().ok().unwrap()));
        }
        assert_eq!(found, [("one", "1"), ("three", "")]);
        assert_eq!(values.byte_array().ok(), Some(&[1, 2][..]));
        assert_eq!((values.u32().ok(), values.is_empty()), (Some(1), true));
        assert!(read.values("s").is_err(), "of other types");
        for length in 0..bytes.len() {
            assert!(Message::read(&mut &bytes[..length]).is_err(), "{length}");
        }
        // Lengths and types that are not true end in an error, or in other values.
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                if let Ok(message) = Message::read(&mut &changed[..]) {
                    let mut values = Reader::new(&message.body);
                    let _ =
                        (values.string().map(drop), values.array(8).map(drop), values.byte_array().map(drop));
                }
            }
        }
    }

    #[test]
    fn what_comes_before_the_answer_is_passed_over_and_a_bus_that_ends_is_an_error() {
        let said = |text| Body::new("s").string(text);
        let (mut bus, _theirs) = bus_that_says(&[
            message(SIGNAL, 1, "", &said("a signal")),
            answer(7, &said("to somebody else's call")),
            error(7, "org.example.Error"),
            answer(1, &said("the answer")),
            error(2, "org.example.Error.No"),
        ]);
        let answer = bus.call(METHOD, &Body::new("")).ok().unwrap();
        assert_eq!(answer.values("s").ok().unwrap().string().ok(), Some("the answer"));
        let name = match bus.call(METHOD, &Body::new("")) {
            Err(Failure::Said(name)) => name,
            _ => String::new(),
        };
        assert_eq!(name, "org.example.Error.No");
        assert!(bus.call(METHOD, &Body::new("")).is_err());
    }

    #[test]
    fn of_the_addresses_of_a_bus_those_of_sockets_are_tried() {
        let path = |path: &str| Place::Path(path.into());
        assert_eq!(places(b"unix:path=/run/user/0/bus,guid=00"), [path("/run/user/0/bus")]);
        assert_eq!(
            places(b"tcp:host=h;unix:guid=1,abstract=/tmp/x;unix:path=/a%20b%3b"),
            [Place::Abstract(b"/tmp/x".to_vec()), path("/a b;")]
        );
        for none in ["", ";", "unix:", "unix:path=%", "unix:path=%zz", "autolaunch:", "path=/a"] {
            assert_eq!(places(none.as_bytes()), [], "{none}");
        }
    }
}
