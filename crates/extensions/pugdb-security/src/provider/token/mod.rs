//! A root key that a hardware token keeps (PKCS#11) and does not give away: it wraps by itself.

use std::fmt;

use parking_lot::Mutex;
use pugdb_core::coding::index;
use pugdb_core::env::{Access, Env};
use pugdb_core::{DatabaseId, Error, Result};
use zeroize::Zeroizing;

use self::module::{Failure, Visit, visit, wants_pin, wrong_pin};
use self::uri::{PinSource, TokenUri};
use super::kept::{self, KeyStore};
use super::{Kind, RootProvider};
use crate::secret::Secret;

mod envelope;
mod module;
mod uri;

/// A PIN and the end of its line.
const PIN_FILE_BYTES_MAX: u64 = 4096;

/// Root keys in a token that speaks PKCS#11 (2.40, OASIS): a hardware security module, a stick, a smart card, or one made of software. Each is
/// an AES-256 key that is made in the token, cannot be read out of it, and wraps by `CKM_AES_GCM`. A rotation makes another one and destroys
/// the one before.
///
/// A URI (RFC 7512) names the token: `token`, `serial`, `manufacturer`, `model`, `slot-id`; `object`, what keys are named after in it;
/// `module-path`, the library that speaks to it; and `pin-source`, `file:PATH` (its owner's alone) or `env:VARIABLE`. A PIN in the URI is
/// refused: everybody sees it there.
///
/// ```
/// use pugdb_security::{RootProvider as _, Token};
///
/// let library = "/usr/lib/softhsm/libsofthsm2.so";
/// let token = Token::new(&format!("pkcs11:token=safe;object=orders?module-path={library}"))?.with_pin("1234");
/// assert_eq!(token.describe(), "the PKCS#11 token safe of /usr/lib/softhsm/libsofthsm2.so");
/// assert!(token.destroys());
/// assert!(Token::new(&format!("pkcs11:token=safe?module-path={library}&pin-value=1234")).is_err());
/// # Ok::<(), pugdb_core::Error>(())
/// ```
pub struct Token {
    uri: TokenUri,
    pin: Pin,
    known: Mutex<KnownPins>,
}

/// Where the PIN comes from.
enum Pin {
    /// As the URI says, or nowhere.
    Uri,
    Given(Zeroizing<String>),
    Asked(Box<Ask>),
}

/// Asks somebody for the PIN of the token of this name.
type Ask = dyn Fn(&str) -> Result<String> + Send + Sync;

/// PINs that were found out.
#[derive(Default)]
struct KnownPins {
    asked: Option<Zeroizing<String>>,
    /// The token has refused it. It counts how often.
    refused: Option<Zeroizing<String>>,
}

impl Token {
    /// The token that a URI names. It is looked for when a database is opened.
    ///
    /// # Errors
    /// `Invalid` when the text is no such URI, or has a PIN in it.
    pub fn new(uri: &str) -> Result<Self> {
        Ok(Self { uri: TokenUri::parse(uri)?, pin: Pin::Uri, known: Mutex::default() })
    }

    /// With this PIN, whatever the URI says of one.
    ///
    /// ```
    /// use pugdb_security::Token;
    ///
    /// let token = Token::new("pkcs11:token=safe?module-path=/usr/lib/libtoken.so")?.with_pin("1234");
    /// assert!(!format!("{token:?}").contains("1234"));
    /// # Ok::<(), pugdb_core::Error>(())
    /// ```
    #[must_use]
    pub fn with_pin(self, pin: impl Into<String>) -> Self {
        Self { pin: Pin::Given(Zeroizing::new(pin.into())), ..self }
    }

    /// With the PIN that `ask` answers, once, if the URI does not say where it is and the token wants one. It is given the token's name.
    ///
    /// ```
    /// use pugdb_security::Token;
    ///
    /// let uri = "pkcs11:token=safe?module-path=/usr/lib/libtoken.so";
    /// let token = Token::new(uri)?.asking(|token| {
    ///     println!("the PIN of {token}?");
    ///     Ok("1234".to_owned())
    /// });
    /// assert_eq!(format!("{token:?}"), "Token(the PKCS#11 token safe of /usr/lib/libtoken.so)");
    /// # Ok::<(), pugdb_core::Error>(())
    /// ```
    #[must_use]
    pub fn asking(self, ask: impl Fn(&str) -> Result<String> + Send + Sync + 'static) -> Self {
        if self.uri.pin.is_some() { self } else { Self { pin: Pin::Asked(Box::new(ask)), ..self } }
    }

    fn visit<T>(
        &self,
        env: &Env,
        how: Visit,
        work: impl FnOnce(&mut dyn KeyStore) -> Result<T>,
    ) -> Result<T> {
        let pin = self.pin(env)?;
        if pin.is_some() && self.known.lock().refused == pin {
            return Err(wrong_pin(&self.uri));
        }
        match visit(&self.uri, pin.as_ref().map(|pin| pin.as_str()), how, work) {
            Err(Failure::WrongPin) => {
                self.known.lock().refused = pin;
                Err(wrong_pin(&self.uri))
            }
            Err(Failure::Other(error)) => Err(error),
            Ok(done) => Ok(done),
        }
    }

    /// `None` for a token that wants none.
    fn pin(&self, env: &Env) -> Result<Option<Zeroizing<String>>> {
        match (&self.pin, &self.uri.pin) {
            (Pin::Given(pin), _) => Ok(Some(pin.clone())),
            (Pin::Asked(ask), _) => self.asked(&**ask),
            (Pin::Uri, Some(PinSource::File(path))) => pin_in_file(env, path).map(Some),
            (Pin::Uri, Some(PinSource::Environment(variable))) => {
                std::env::var(variable).map(|pin| Some(Zeroizing::new(pin))).map_err(|_| {
                    Error::not_found(format!(
                        "the environment variable {variable} is not set; it has to hold the PIN of {}",
                        self.uri
                    ))
                })
            }
            (Pin::Uri, None) if wants_pin(&self.uri)? => Err(Error::denied(format!(
                "{} wants a PIN; say where it is by pin-source=file:PATH or pin-source=env:VARIABLE",
                self.uri
            ))),
            (Pin::Uri, None) => Ok(None),
        }
    }

    fn asked(&self, ask: &Ask) -> Result<Option<Zeroizing<String>>> {
        if let Some(known) = self.known.lock().asked.clone() {
            return Ok(Some(known));
        }
        // Nobody is asked for the PIN of a token that is not there.
        if !wants_pin(&self.uri)? {
            return Ok(None);
        }
        let pin = Zeroizing::new(ask(&self.uri.to_string())?);
        self.known.lock().asked = Some(pin.clone());
        Ok(Some(pin))
    }
}

/// The first line of a file that only its owner can read.
fn pin_in_file(env: &Env, path: &std::path::Path) -> Result<Zeroizing<String>> {
    let shown = path.display();
    let doing = |error| Error::io(format!("read the PIN in {shown}"), error);
    let file = env.fs.open(path, Access::Read).map_err(doing)?;
    if !env.fs.is_private(path).map_err(doing)? {
        return Err(Error::denied(format!(
            "others than its owner can read the PIN in {shown}; run `chmod 600 {shown}`"
        )));
    }
    let length = file.length().map_err(doing)?.min(PIN_FILE_BYTES_MAX);
    let mut bytes = Zeroizing::new(vec![0; index(length)]);
    file.read_exact_at(&mut bytes, 0).map_err(doing)?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = std::str::from_utf8(line.strip_suffix(b"\r").unwrap_or(line)).ok();
    line.filter(|line| !line.is_empty())
        .map(|line| Zeroizing::new(line.to_owned()))
        .ok_or_else(|| Error::invalid(format!("{shown} has no PIN in its first line")))
}

/// The PIN is not shown.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.uri)
    }
}

impl RootProvider for Token {
    fn describe(&self) -> String {
        self.uri.to_string()
    }

    fn protects(&self) -> &'static str {
        "the data on a disk, a machine or a copy that somebody has without the token: the key does not leave it. It does not protect the data from who \
         has token and PIN, or reads the process's memory. A rotation destroys the old key in the token; a backup that the token's maker \
         makes of it, or the files of a token that is software, may still have it."
    }

    fn safekeeping(&self) -> &'static str {
        "keep copies of KEYRING where no copy of the data is. The key does not leave the token: without the token, or a backup that it makes of \
         itself, nobody can read the data, and each rotation makes another key"
    }

    fn destroys(&self) -> bool {
        true
    }

    fn wrap(&self, env: &Env, database: DatabaseId, epoch: &Secret) -> Result<Vec<u8>> {
        self.visit(env, Visit::Change, |keys| kept::wrap(keys, env, Kind::Token, database, epoch))
    }

    fn unwrap(&self, env: &Env, database: DatabaseId, wrapped: &[u8]) -> Result<Secret> {
        // Before anybody is asked for a PIN.
        Kind::Token.of(wrapped)?;
        let place = self.uri.to_string();
        self.visit(env, Visit::Read, |keys| kept::unwrap(keys, &place, Kind::Token, database, wrapped))
    }

    fn settle(&self, env: &Env, database: DatabaseId, wrapped: &[u8]) -> Result<()> {
        let place = self.uri.to_string();
        self.visit(env, Visit::Change, |keys| kept::settle(keys, &place, Kind::Token, database, wrapped))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use pugdb_core::ErrorKind;

    use super::*;

    #[test]
    fn a_pin_lies_in_a_file_that_others_cannot_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pin");
        let write = |text: &[u8], mode| {
            #[expect(clippy::disallowed_methods, reason = "a test makes its files by hand")]
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let read = || pin_in_file(&Env::os(), &path);
        assert_eq!(read().unwrap_err().kind(), ErrorKind::NotFound);
        for (text, pin) in [(&b"12 34\r\nmore"[..], "12 34"), (b"1234", "1234"), (b"1234\n", "1234")] {
            write(text, 0o600);
            assert_eq!(read().unwrap().as_str(), pin);
        }
        write(b"1234", 0o640);
        let error = read().unwrap_err();
        assert!(error.kind() == ErrorKind::Denied && error.to_string().contains("chmod 600"), "{error}");
        for none in [&b""[..], b"\n1234", b"\xff1"] {
            write(none, 0o600);
            let error = read().unwrap_err();
            assert!(error.kind() == ErrorKind::Invalid && !error.to_string().contains("1234"), "{error}");
        }
    }

    #[test]
    fn nobody_is_asked_for_the_pin_of_a_token_that_is_not_there_or_is_not_needed() {
        let uri = "pkcs11:token=a?module-path=/nowhere.so";
        let asking = |uri: &str| Token::new(uri).unwrap().asking(|_| panic!("somebody was asked"));
        let (env, database) = (Env::os(), DatabaseId([1; 16]));
        let error = asking(uri).wrap(&env, database, &Secret::copy(&[1; 32])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let error = asking(uri).unwrap(&env, database, &[Kind::KeyFile as u8, 1]).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("sealed with a key file"), "{error}");
        let elsewhere = asking(&format!("{uri}&pin-source=env:NOT_SET_FOR_PINS"));
        let error = elsewhere.wrap(&env, database, &Secret::copy(&[1; 32])).unwrap_err();
        assert!(error.to_string().contains("NOT_SET_FOR_PINS is not set"), "{error}");
    }

    #[test]
    fn a_pin_that_was_refused_is_not_tried_again() {
        let token = Token::new("pkcs11:token=a?module-path=/nowhere.so").unwrap().with_pin("1234");
        let attempt = || token.visit(&Env::os(), Visit::Read, |_| Ok(())).unwrap_err().kind();
        assert_eq!(attempt(), ErrorKind::NotFound, "it was tried");
        token.known.lock().refused = Some(Zeroizing::new("1235".to_owned()));
        assert_eq!(attempt(), ErrorKind::NotFound, "it was tried: another one was refused");
        token.known.lock().refused = Some(Zeroizing::new("1234".to_owned()));
        assert_eq!(attempt(), ErrorKind::Denied);
        let error = token.visit(&Env::os(), Visit::Read, |_| Ok(())).unwrap_err();
        assert!(
            error.to_string().starts_with("wrong PIN of") && !error.to_string().contains("1234"),
            "{error}"
        );
    }
}
