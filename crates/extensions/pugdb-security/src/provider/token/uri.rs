//! The name of a token and of the keys in it: a PKCS#11 URI (RFC 7512).

use std::fmt;
use std::path::PathBuf;

use pugdb_core::{Error, Result};

/// Longer than any that says something.
const URI_BYTES_MAX: usize = 4096;
/// Leaves room for the name of a key behind it in a label.
const OBJECT_BYTES_MAX: usize = 64;
/// What keys are named after where the URI does not say it.
const OBJECT: &str = "pugdb";

/// Which token, through which module, and where its PIN is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TokenUri {
    pub(super) token: Option<String>,
    pub(super) manufacturer: Option<String>,
    pub(super) serial: Option<String>,
    pub(super) model: Option<String>,
    pub(super) slot: Option<u64>,
    /// What keys that are made are named after.
    pub(super) object: String,
    pub(super) module: PathBuf,
    pub(super) pin: Option<PinSource>,
}

/// Where a PIN is that nobody is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PinSource {
    /// Its first line.
    File(PathBuf),
    Environment(String),
}

impl TokenUri {
    /// Nothing of the text is in the error: it may have a PIN in it.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let rest = text.strip_prefix("pkcs11:").filter(|_| text.len() <= URI_BYTES_MAX).ok_or_else(|| {
            invalid("a token is named by pkcs11:token=LABEL?module-path=FILE, in at most 4,096 bytes")
        })?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut uri = Self { object: OBJECT.to_owned(), ..Self::default() };
        each(path, ';', |name, value| uri.attribute(name, value))?;
        each(query, '&', |name, value| uri.query(name, value))?;
        if uri.module.as_os_str().is_empty() {
            return Err(invalid(
                "it does not say which library speaks to the token: put ?module-path=FILE behind it",
            ));
        }
        if [&uri.token, &uri.serial].iter().all(|named| named.is_none()) && uri.slot.is_none() {
            return Err(invalid("it names no token: write token=LABEL, serial=NUMBER or slot-id=NUMBER"));
        }
        Ok(uri)
    }

    fn attribute(&mut self, name: &str, value: &str) -> Result<()> {
        if name == "id" {
            return Err(invalid(
                "id names one key, and each rotation makes another one; name them by object",
            ));
        }
        let value = decode(value)?;
        match name {
            "token" => self.token = Some(value),
            "manufacturer" => self.manufacturer = Some(value),
            "serial" => self.serial = Some(value),
            "model" => self.model = Some(value),
            "slot-id" => {
                let number = value.parse().map_err(|_| invalid("slot-id is a number"))?;
                self.slot = Some(number);
            }
            "object" if value.len() <= OBJECT_BYTES_MAX => self.object = value,
            "object" => return Err(invalid("object has more than 64 bytes")),
            "type" if value == "secret-key" => (),
            "type" => return Err(invalid("what wraps keys is of type=secret-key")),
            _ => return Err(unknown(name, "token, serial, manufacturer, model, slot-id and object")),
        }
        Ok(())
    }

    fn query(&mut self, name: &str, value: &str) -> Result<()> {
        let value = decode(value)?;
        match name {
            // The module is given the PIN: where it comes from must not depend on who starts the process, nor where.
            "module-path" if value.starts_with('/') => self.module = value.into(),
            "module-path" => return Err(invalid("module-path begins with /")),
            "module-name" => {
                return Err(invalid(
                    "module-name is looked for in whatever places; name the library by module-path",
                ));
            }
            "pin-source" => self.pin = Some(PinSource::parse(&value)?),
            "pin-value" => {
                return Err(invalid(
                    "everybody on the machine can see a PIN on a command line, so pin-value is not taken; write pin-source=file:PATH or \
                     pin-source=env:VARIABLE, or leave it out to be asked",
                ));
            }
            _ => return Err(unknown(name, "module-path and pin-source")),
        }
        Ok(())
    }
}

impl PinSource {
    fn parse(text: &str) -> Result<Self> {
        let file = text.strip_prefix("file://").filter(|path| path.starts_with('/'));
        match (file.or_else(|| text.strip_prefix("file:")), text.strip_prefix("env:")) {
            (Some(path), _) if !path.is_empty() => Ok(Self::File(path.into())),
            (None, Some(variable)) if !variable.is_empty() => Ok(Self::Environment(variable.to_owned())),
            _ => Err(invalid("pin-source is file:PATH or env:VARIABLE")),
        }
    }
}

/// In messages and reports: what tells it from other tokens.
impl fmt::Display for TokenUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the PKCS#11 token")?;
        let Self { token, manufacturer, serial, model, .. } = self;
        if let Some(label) = token {
            write!(f, " {label}")?;
        }
        let slot = self.slot.map(|slot| slot.to_string());
        let others = [("serial", serial), ("model", model), ("by", manufacturer), ("in slot", &slot)];
        for (name, value) in others.iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
            write!(f, " {name} {value}")?;
        }
        write!(f, " of {}", self.module.display())
    }
}

/// Attributes: each at most once.
fn each(text: &str, between: char, mut take: impl FnMut(&str, &str) -> Result<()>) -> Result<()> {
    let mut seen = Vec::new();
    for attribute in text.split(between).filter(|_| !text.is_empty()) {
        let (name, value) = attribute
            .split_once('=')
            .ok_or_else(|| invalid("what stands between the separators is not NAME=VALUE"))?;
        if seen.contains(&name) {
            return Err(invalid("it says something twice"));
        }
        seen.push(name);
        take(name, value)?;
    }
    Ok(())
}

fn decode(text: &str) -> Result<String> {
    decoded(text).ok_or_else(|| {
        invalid("a value in it is empty, or is not percent-encoded UTF-8 without control characters")
    })
}

/// Percent-decoding (RFC 3986, section 2.1).
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let mut digit = || char::from(rest.next()?).to_digit(16);
        bytes.push(match byte {
            b'%' => u8::try_from(digit()? * 16 + digit()?).ok()?,
            other => other,
        });
    }
    // They would be in messages, and a zero ends a path for the system.
    let text = String::from_utf8(bytes).ok()?;
    (!text.is_empty() && !text.contains(char::is_control)).then_some(text)
}

fn unknown(name: &str, known: &str) -> Error {
    // A name may be anything, a PIN that was put in the wrong place too.
    let is_name = name.len() <= 32 && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    let name = if is_name { name } else { "a name in it" };
    invalid(&format!("{name} is not known here: there are {known}"))
}

fn invalid(what: &str) -> Error {
    Error::invalid(format!("the URI of the token: {what}"))
}

#[cfg(test)]
mod tests {
    use pugdb_core::ErrorKind;

    use super::*;

    fn refused(text: &str) -> String {
        let error = TokenUri::parse(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
        error.to_string()
    }

    #[test]
    fn a_uri_says_which_token_through_which_module_and_where_its_pin_is() {
        let uri = TokenUri::parse(
            "pkcs11:token=my%20token;serial=12ab;object=orders;type=secret-key;slot-id=7?module-path=/usr/lib/a.so&pin-source=file:/etc/pin",
        );
        let expected = TokenUri {
            token: Some("my token".to_owned()),
            serial: Some("12ab".to_owned()),
            slot: Some(7),
            object: "orders".to_owned(),
            module: "/usr/lib/a.so".into(),
            pin: Some(PinSource::File("/etc/pin".into())),
            ..TokenUri::default()
        };
        assert_eq!(uri.unwrap(), expected);
        assert_eq!(expected.to_string(), "the PKCS#11 token my token serial 12ab in slot 7 of /usr/lib/a.so");
        let short = TokenUri::parse("pkcs11:model=v3;manufacturer=m;serial=1?module-path=/a").unwrap();
        assert_eq!((short.object.as_str(), short.pin.clone()), ("pugdb", None));
        assert_eq!(short.to_string(), "the PKCS#11 token serial 1 model v3 by m of /a");
        for (source, path) in [("file:/p", "/p"), ("file:///p", "/p"), ("file:p%3Bq", "p;q")] {
            assert_eq!(PinSource::parse(&decode(source).unwrap()).unwrap(), PinSource::File(path.into()));
        }
        assert_eq!(PinSource::parse("env:PIN").unwrap(), PinSource::Environment("PIN".to_owned()));
        assert_eq!(decode("%c3%A4+%25").unwrap(), "ä+%");
    }

    #[test]
    fn what_is_no_uri_is_refused_and_says_what_to_write() {
        let tail = "?module-path=/a.so";
        for (text, says) in [
            ("token=a?module-path=/a.so", "named by pkcs11:token=LABEL"),
            ("pkcs11:token=a", "put ?module-path=FILE"),
            ("pkcs11:", "put ?module-path=FILE"),
            ("pkcs11:?module-path=/a", "names no token"),
            ("pkcs11:object=a?module-path=/a", "names no token"),
            ("pkcs11:token=a?module-path=a.so", "module-path begins with /"),
            ("pkcs11:token=a?module-name=softhsm2", "name the library by module-path"),
            ("pkcs11:token=a?module-path=/a&pin-source=|pass", "file:PATH or env:VARIABLE"),
            ("pkcs11:token=a?module-path=/a&pin-source=file:", "file:PATH or env:VARIABLE"),
            ("pkcs11:token=a?module-path=/a&pin-source=env:", "file:PATH or env:VARIABLE"),
        ] {
            assert!(refused(text).contains(says), "{text}: {}", refused(text));
        }
        for (path, says) in [
            ("token=a;token=b", "twice"),
            ("token=a;token=a", "twice"),
            ("token=a;;serial=1", "NAME=VALUE"),
            ("token=a;", "NAME=VALUE"),
            ("token", "NAME=VALUE"),
            ("token=", "is empty"),
            ("token=%", "percent-encoded"),
            ("token=%4", "percent-encoded"),
            ("token=%zz", "percent-encoded"),
            ("token=%+1", "percent-encoded"),
            ("token=%ff", "percent-encoded"),
            ("token=a%00b", "control characters"),
            ("token=a%0ab", "control characters"),
            ("token=a%c2%9bb", "control characters"),
            ("slot-id=-1", "slot-id is a number"),
            ("slot-id=99999999999999999999", "slot-id is a number"),
            ("token=a;type=private", "type=secret-key"),
            ("token=a;id=%01", "name them by object"),
            ("token=a;library-version=1", "library-version is not known"),
        ] {
            let text = format!("pkcs11:{path}{tail}");
            assert!(refused(&text).contains(says), "{text}: {}", refused(&text));
        }
        assert!(refused(&format!("pkcs11:token={}{tail}", "a".repeat(5000))).contains("4,096"));
        assert!(refused(&format!("pkcs11:token=a;object={}{tail}", "a".repeat(65))).contains("64 bytes"));
    }

    #[test]
    fn a_pin_in_it_is_refused_and_shown_in_no_message() {
        for text in [
            "pkcs11:token=a?module-path=/a&pin-value=493817",
            "pkcs11:token=a;pin-value=493817?module-path=/a",
            "pkcs11:token=a;493817=x?module-path=/a",
            "pkcs11:token=a?module-path=/a&493817",
            "pkcs11:token=a?module-path=/a&pin-source=493817",
            "pkcs11:token=a?module-path=/a&PIN493817=x",
            "pkcs11:token=a?module-path=493817",
        ] {
            assert!(!refused(text).contains("493817"), "{}", refused(text));
        }
        assert!(refused("pkcs11:token=a?module-path=/a&pin-value=1").contains("pin-source=file:PATH"));
    }

    #[test]
    fn whatever_bytes_stand_behind_the_scheme_end_in_an_answer() {
        proptest::proptest!(|(text in "[a-z%;?&=:/0-9\u{0}-\u{ff}]{0,60}")| {
            let _ = TokenUri::parse(&format!("pkcs11:{text}"));
            let text = format!("pkcs11:token={text}?module-path=/a");
            let parsed = TokenUri::parse(&text).map(|uri| uri.to_string());
            proptest::prop_assert!(parsed.is_err() || !parsed.unwrap().contains(char::is_control));
        });
    }
}
