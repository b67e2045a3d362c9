//! The library that speaks to a token, from loading it to its end. Each visit is one: finding the token, logging in, work, logging out.

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Function, Pkcs11};
use cryptoki::error::{Error as Said, RvError};
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::AuthPin;
use parking_lot::Mutex;
use pugdb_core::env::Env;
use pugdb_core::{DatabaseId, Error, Result};
use zeroize::Zeroizing;

use super::envelope::{self, Gcm};
use super::uri::TokenUri;
use crate::aead::{NONCE_BYTES, TAG_BYTES};
use crate::provider::kept::{KeyName, KeyStore, sync_all_disks};
use crate::secret::{KEY_BYTES, Secret};

/// A library has one state for the whole process: one visit at a time begins and ends with it.
static VISIT: Mutex<()> = Mutex::new(());

/// What is to be done with the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Visit {
    Read,
    Change,
}

/// Whether the token wants a PIN from us: not when it needs none, nor when it has keys of its own to type it on.
pub(super) fn wants_pin(uri: &TokenUri) -> Result<bool> {
    let _alone = VISIT.lock();
    let (_, info) = Module::load(uri)?.find()?;
    Ok(info.login_required() && !info.protected_authentication_path())
}

/// Why a visit has come to nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// The token has refused the PIN, and counted it.
    WrongPin,
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// Does `work` with the keys of the token.
pub(super) fn visit<T>(
    uri: &TokenUri,
    pin: Option<&str>,
    visit: Visit,
    work: impl FnOnce(&mut dyn KeyStore) -> Result<T>,
) -> std::result::Result<T, Failure> {
    let _alone = VISIT.lock();
    let module = Module::load(uri)?;
    let (slot, info) = module.find()?;
    let opened = match visit {
        Visit::Read => module.library.open_ro_session(slot),
        Visit::Change => module.library.open_rw_session(slot),
    };
    let session = opened.map_err(|error| said(uri, "speak to", error))?;
    let login = Login::new(uri, &session, &info, pin)?;
    let outcome = work(&mut Keys { uri, module: &module, slot, session: &session });
    drop(login);
    Ok(outcome?)
}

pub(super) fn wrong_pin(uri: &TokenUri) -> Error {
    Error::denied(format!(
        "wrong PIN of {uri}: it is not tried again, for after some wrong ones the token locks itself"
    ))
}

/// A library that is loaded and begun.
struct Module<'a> {
    uri: &'a TokenUri,
    library: Pkcs11,
    /// The program that we are in has not begun it, so it does not need it when we are done.
    is_ours: bool,
}

impl<'a> Module<'a> {
    fn load(uri: &'a TokenUri) -> Result<Self> {
        let path = uri.module.display();
        if !uri.module.exists() {
            return Err(Error::not_found(format!(
                "there is no library {path}; install the token's, or name it by module-path"
            )));
        }
        let library = Pkcs11::new(&uri.module).map_err(|error| {
            let why = match error {
                Said::LibraryLoading(error) => format!(": {error}"),
                _ => String::new(),
            };
            Error::invalid(format!("{path} is no PKCS#11 library that can be loaded here{why}"))
        })?;
        let begun = library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK));
        let is_ours = match begun {
            Ok(()) => true,
            Err(Said::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => false,
            Err(error) => return Err(said(uri, "begin with", error)),
        };
        Ok(Self { uri, library, is_ours })
    }

    /// The one token that the URI is about.
    fn find(&self) -> Result<(Slot, TokenInfo)> {
        let uri = self.uri;
        let slots = self.library.get_slots_with_token().map_err(|error| said(uri, "look for", error))?;
        let mut found = Vec::new();
        for slot in slots {
            // One that is taken out at this moment is not there.
            let Ok(info) = self.library.get_token_info(slot) else { continue };
            if info.token_initialized() && is_meant(uri, slot.id(), &info) {
                found.push((slot, info));
            }
        }
        if found.len() > 1 {
            return Err(Error::invalid(format!(
                "{} tokens are {uri}; say which by serial=NUMBER",
                found.len()
            )));
        }
        found.pop().ok_or_else(|| {
            Error::not_found(format!(
                "there is no {}; is it plugged in, and its name right? `pkcs11-tool --list-token-slots --module {}` shows those there are",
                uri.to_string().trim_start_matches("the "),
                uri.module.display()
            ))
        })
    }
}

impl Drop for Module<'_> {
    fn drop(&mut self) {
        if self.is_ours {
            // It says only that it was ended already.
            let _ = self.library.clone().finalize();
        }
    }
}

fn is_meant(uri: &TokenUri, slot: u64, info: &TokenInfo) -> bool {
    let is = |wanted: &Option<String>, there: &str| {
        wanted.as_ref().is_none_or(|wanted| wanted == there.trim_end())
    };
    uri.slot.is_none_or(|wanted| wanted == slot)
        && is(&uri.token, info.label())
        && is(&uri.serial, info.serial_number())
        && is(&uri.manufacturer, info.manufacturer_id())
        && is(&uri.model, info.model())
}

/// Ends with logging out, if it has begun with logging in.
struct Login<'a>(Option<&'a Session>);

impl<'a> Login<'a> {
    fn new(
        uri: &TokenUri,
        session: &'a Session,
        info: &TokenInfo,
        pin: Option<&str>,
    ) -> std::result::Result<Self, Failure> {
        if !info.login_required() {
            return Ok(Self(None));
        }
        check_pin(uri, PinState::of(info))?;
        let pin = pin.map(|pin| AuthPin::from(pin.to_owned()));
        match session.login(UserType::User, pin.as_ref()) {
            Ok(()) => Ok(Self(Some(session))),
            // By the program that we are in.
            Err(Said::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(Self(None)),
            Err(Said::Pkcs11(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange, _)) => {
                Err(Failure::WrongPin)
            }
            Err(error) => Err(said(uri, "log in to", error).into()),
        }
    }
}

impl Drop for Login<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.0 {
            // The end of the session does the same.
            let _ = session.logout();
        }
    }
}

/// What a token says of its PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PinState {
    Missing,
    Locked,
    /// One more wrong one locks it.
    LastTry,
    Good,
}

impl PinState {
    fn of(info: &TokenInfo) -> Self {
        if info.user_pin_locked() {
            Self::Locked
        } else if !info.user_pin_initialized() {
            Self::Missing
        } else if info.user_pin_final_try() {
            Self::LastTry
        } else {
            Self::Good
        }
    }
}

/// A service that is started again and again with a wrong PIN must not lock the token.
fn check_pin(uri: &TokenUri, state: PinState) -> Result<()> {
    match state {
        PinState::Good => Ok(()),
        PinState::LastTry => Err(Error::denied(format!(
            "one more wrong PIN locks {uri}, so none is tried: log in with another program, as `pkcs11-tool --login --list-objects`, \
             which makes it forget the wrong ones, and see where the PIN is taken from"
        ))),
        PinState::Locked => Err(said_of(uri, "log in to", RvError::PinLocked)),
        PinState::Missing => Err(said_of(uri, "log in to", RvError::UserPinNotInitialized)),
    }
}

/// A token in which somebody is logged in.
struct Keys<'a> {
    uri: &'a TokenUri,
    module: &'a Module<'a>,
    slot: Slot,
    session: &'a Session,
}

impl Keys<'_> {
    fn said(&self, doing: &'static str) -> impl Fn(Said) -> Error {
        move |error| said(self.uri, doing, error)
    }

    /// The keys of a database: `CKA_ID` is its id, and a name stands last in the label.
    fn handles(&self, database: DatabaseId) -> Result<Vec<(KeyName, ObjectHandle)>> {
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Token(true),
            Attribute::Id(database.0.to_vec()),
        ];
        let handles = self.session.find_objects(&template).map_err(self.said("look for keys in"))?;
        let mut found = Vec::new();
        for handle in handles {
            let attributes = self.session.get_attributes(handle, &[AttributeType::Label]);
            for attribute in attributes.map_err(self.said("read the labels of keys in"))? {
                let Attribute::Label(label) = attribute else { continue };
                // Whatever object it was named after then.
                found.extend(name_in(&label).map(|name| (name, handle)));
            }
        }
        Ok(found)
    }

    fn handle(&self, database: DatabaseId, name: KeyName) -> Result<ObjectHandle> {
        let found = self.handles(database)?.into_iter().find(|(other, _)| *other == name);
        found.map(|(_, handle)| handle).ok_or_else(|| {
            Error::not_found(format!("root key {} is not in {} any more", name.digits(), self.uri))
        })
    }

    /// A token that is software has files, and may leave them to the system, as `SoftHSM` does.
    fn make_durable(&self) -> Result<()> {
        let slot = self.module.library.get_slot_info(self.slot).map_err(self.said("look at"))?;
        if !slot.hardware_slot() {
            sync_all_disks();
        }
        Ok(())
    }

    fn check_mechanisms(&self) -> Result<()> {
        let there = self.module.library.get_mechanism_list(self.slot);
        let there = there.map_err(self.said("ask what can be done by"))?;
        let needed = [MechanismType::AES_KEY_GEN, MechanismType::AES_GCM];
        match needed.iter().find(|needed| !there.contains(needed)) {
            Some(missing) => Err(cannot(self.uri, &missing.to_string())),
            None => Ok(()),
        }
    }
}

fn label_of(object: &str, name: KeyName) -> Vec<u8> {
    format!("{object} {}", name.digits()).into_bytes()
}

fn name_in(label: &[u8]) -> Option<KeyName> {
    KeyName::from_digits(std::str::from_utf8(label).ok()?.rsplit_once(' ')?.1)
}

impl KeyStore for Keys<'_> {
    fn list(&mut self, database: DatabaseId) -> Result<Vec<KeyName>> {
        let mut names: Vec<_> = self.handles(database)?.into_iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    fn make(&mut self, _: &Env, database: DatabaseId, name: KeyName) -> Result<()> {
        self.check_mechanisms()?;
        let template = [
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Encrypt(true),
            Attribute::Decrypt(true),
            Attribute::Wrap(false),
            Attribute::Unwrap(false),
            Attribute::ValueLen(KEY_BYTES.try_into().map_err(self.said("say how long keys are to"))?),
            Attribute::Id(database.0.to_vec()),
            Attribute::Label(label_of(&self.uri.object, name)),
        ];
        let doing = self.said("make a key in");
        let handle = self.session.generate_key(&Mechanism::AesKeyGen, &template).map_err(&doing)?;
        // What is promised of it is what the token says, not what it was asked for.
        let wanted = [AttributeType::Sensitive, AttributeType::NeverExtractable];
        let is = self.session.get_attributes(handle, &wanted).map_err(&doing)?;
        let (sensitive, never) = (Attribute::Sensitive(true), Attribute::NeverExtractable(true));
        if is.contains(&sensitive) && is.contains(&never) {
            return self.make_durable();
        }
        self.session.destroy_object(handle).map_err(&doing)?;
        Err(Error::unavailable(format!("{} makes keys that can be read out; take another one", self.uri)))
    }

    fn destroy(&mut self, database: DatabaseId, name: KeyName) -> Result<()> {
        let doing = self.said("destroy an old root key in");
        let named =
            |keys: Vec<(KeyName, ObjectHandle)>| keys.into_iter().filter(move |(other, _)| *other == name);
        for (_, handle) in named(self.handles(database)?) {
            self.session.destroy_object(handle).map_err(&doing)?;
        }
        // Erasure rests on it.
        if named(self.handles(database)?).next().is_none() {
            return self.make_durable();
        }
        Err(Error::unavailable(format!(
            "{} says that root key {} is destroyed, and still has it",
            self.uri,
            name.digits()
        )))
    }

    fn seal(&mut self, env: &Env, database: DatabaseId, name: KeyName, epoch: &Secret) -> Result<Vec<u8>> {
        let mut nonce = [0; NONCE_BYTES];
        env.random.fill(&mut nonce);
        let handle = self.handle(database, name)?;
        envelope::seal(&mut TokenKey { keys: self, handle }, (database, name), nonce, epoch)
    }

    fn unseal(&mut self, database: DatabaseId, name: KeyName, sealed: &[u8]) -> Result<Secret> {
        let handle = self.handle(database, name)?;
        envelope::open(&mut TokenKey { keys: self, handle }, (database, name), sealed)
    }
}

/// One key that does not leave the token.
struct TokenKey<'a, 'b> {
    keys: &'a Keys<'b>,
    handle: ObjectHandle,
}

fn params<'a>(
    nonce: &'a mut [u8; NONCE_BYTES],
    associated: &'a [u8],
) -> std::result::Result<GcmParams<'a>, Said> {
    GcmParams::new(nonce, associated, (TAG_BYTES * 8).try_into()?)
}

impl Gcm for TokenKey<'_, '_> {
    fn encrypt(&mut self, nonce: &mut [u8; NONCE_BYTES], associated: &[u8], plain: &[u8]) -> Result<Vec<u8>> {
        let doing = self.keys.said("wrap a key in");
        let mechanism = Mechanism::AesGcm(params(nonce, associated).map_err(&doing)?);
        self.keys.session.encrypt(&mechanism, self.handle, plain).map_err(&doing)
    }

    fn decrypt(
        &mut self,
        nonce: &mut [u8; NONCE_BYTES],
        associated: &[u8],
        sealed: &[u8],
    ) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let doing = self.keys.said("unwrap a key in");
        let mechanism = Mechanism::AesGcm(params(nonce, associated).map_err(&doing)?);
        match self.keys.session.decrypt(&mechanism, self.handle, sealed) {
            Ok(plain) => Ok(Some(Zeroizing::new(plain))),
            // The second is what SoftHSM 2.6 says of a wrong tag.
            Err(Said::Pkcs11(RvError::EncryptedDataInvalid | RvError::GeneralError, Function::Decrypt)) => {
                Ok(None)
            }
            Err(error) => Err(doing(error)),
        }
    }
}

/// What a library has said, and what to do. `doing` stands before the token's name.
fn said(uri: &TokenUri, doing: &str, error: Said) -> Error {
    match error {
        Said::Pkcs11(said, _) => said_of(uri, doing, said),
        other => Error::unavailable(format!("could not {doing} {uri}: {other}")),
    }
}

fn said_of(uri: &TokenUri, doing: &str, said: RvError) -> Error {
    match said {
        RvError::PinLocked => Error::denied(format!(
            "the PIN of {uri} is locked, after too many wrong ones; its security officer has to set another one"
        )),
        RvError::PinExpired => Error::denied(format!(
            "the PIN of {uri} has expired; set another one with the tools of the token"
        )),
        RvError::UserPinNotInitialized => {
            Error::denied(format!("{uri} has no PIN for users yet; its security officer has to set one"))
        }
        RvError::TokenNotPresent
        | RvError::TokenNotRecognized
        | RvError::DeviceRemoved
        | RvError::SlotIdInvalid
        | RvError::SessionClosed
        | RvError::SessionHandleInvalid => {
            Error::unavailable(format!("{uri} was taken out; put it back, and try again"))
        }
        RvError::MechanismInvalid | RvError::MechanismParamInvalid => cannot(uri, "CKM_AES_GCM"),
        RvError::TokenWriteProtected => {
            Error::denied(format!("{uri} is write-protected, so no root key can be made or destroyed in it"))
        }
        RvError::DeviceMemory => {
            Error::unavailable(format!("{uri} has no room for another key; take out what nobody needs"))
        }
        other => Error::unavailable(format!(
            "could not {doing} {uri}: its library says {other:?}; see what it writes about that"
        )),
    }
}

fn cannot(uri: &TokenUri, mechanism: &str) -> Error {
    Error::unavailable(format!("{uri} cannot do {mechanism}, which wraps root keys here; take another token"))
}

#[cfg(test)]
mod tests {
    use pugdb_core::ErrorKind;

    use super::*;

    fn uri(module: &str) -> TokenUri {
        TokenUri::parse(&format!("pkcs11:token=a?module-path={module}")).unwrap()
    }

    fn refused(module: &str) -> (ErrorKind, String) {
        let error = wants_pin(&uri(module)).unwrap_err();
        (error.kind(), error.to_string())
    }

    #[test]
    fn a_missing_module_and_one_that_is_none_are_told_apart() {
        let (kind, message) = refused("/nowhere/libtoken.so");
        assert_eq!(kind, ErrorKind::NotFound);
        assert!(message.contains("name it by module-path"), "{message}");
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("libtext.so");
        #[expect(clippy::disallowed_methods, reason = "a test makes its files by hand")]
        std::fs::write(&text, "no library").unwrap();
        // One that is no library at all, and one that is another.
        let this = std::env::current_exe().unwrap();
        for path in [text, this] {
            let (kind, message) = refused(path.to_str().unwrap());
            assert_eq!(kind, ErrorKind::Invalid, "{message}");
            assert!(message.contains("is no PKCS#11 library"), "{message}");
        }
    }

    #[test]
    fn a_pin_is_never_tried_when_the_next_wrong_one_would_lock_the_token() {
        let uri = uri("/a.so");
        assert!(check_pin(&uri, PinState::Good).is_ok());
        for (state, says) in [
            (PinState::LastTry, "so none is tried"),
            (PinState::Locked, "is locked"),
            (PinState::Missing, "has no PIN"),
        ] {
            let error = check_pin(&uri, state).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Denied);
            assert!(error.to_string().contains(says), "{error}");
        }
    }

    #[test]
    fn what_a_library_says_becomes_what_to_do() {
        let uri = uri("/a.so");
        for (code, kind, says) in [
            (RvError::PinExpired, ErrorKind::Denied, "set another one"),
            (RvError::DeviceRemoved, ErrorKind::Unavailable, "put it back"),
            (RvError::MechanismInvalid, ErrorKind::Unavailable, "CKM_AES_GCM"),
            (RvError::TokenWriteProtected, ErrorKind::Denied, "write-protected"),
            (RvError::DeviceMemory, ErrorKind::Unavailable, "no room"),
            (RvError::GeneralError, ErrorKind::Unavailable, "GeneralError"),
        ] {
            let error = said(&uri, "speak to", Said::Pkcs11(code, Function::Login));
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(says), "{error}");
        }
    }

    #[test]
    fn names_of_keys_stand_last_in_their_labels() {
        let name = KeyName([0xab; 8]);
        assert_eq!(label_of("my orders", name), b"my orders abababababababab");
        assert_eq!(name_in(&label_of("my orders", name)), Some(name));
        for label in [
            &b"abababababababab"[..],
            b"orders",
            b"orders ab",
            b"orders abababababababag",
            b"\xff abababababababab",
        ] {
            assert_eq!(name_in(label), None);
        }
    }
}
