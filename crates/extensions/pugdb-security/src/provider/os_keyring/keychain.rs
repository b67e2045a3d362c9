//! The login keychain of macOS. Written for and not tested: see `docs/limits.md`.

use pugdb_core::{DatabaseId, Error, Result};
use security_framework::base::Error as Said;
use security_framework::item::{ItemClass, ItemSearchOptions, Limit};
use security_framework::passwords::{delete_generic_password, get_generic_password, set_generic_password};
use zeroize::Zeroizing;

use super::{Entries, KeyName, hex};

/// `errSecItemNotFound`.
const NOT_FOUND: i32 = -25300;
/// `errSecInteractionNotAllowed`: it is locked, and nobody can be asked from here.
const LOCKED: i32 = -25308;
/// `errSecAuthFailed` and `errSecUserCanceled`.
const REFUSED: [i32; 2] = [-25293, -128];

/// Generic passwords of one service. The account is the database's id and the key's name.
pub(super) struct Keychain {
    service: String,
}

impl Keychain {
    #[expect(clippy::unnecessary_wraps, reason = "other systems may have no keyring at all")]
    pub(super) fn open(service: &str) -> Result<Self> {
        Ok(Self { service: service.to_owned() })
    }
}

fn account(database: DatabaseId, name: KeyName) -> String {
    format!("{} {}", hex(&database.0), name.digits())
}

impl Entries for Keychain {
    fn names(&mut self, database: DatabaseId) -> Result<Vec<KeyName>> {
        let mut search = ItemSearchOptions::new();
        search.class(ItemClass::generic_password()).service(&self.service);
        search.load_attributes(true).limit(Limit::All);
        let found = match search.search() {
            Err(error) if error.code() == NOT_FOUND => Vec::new(),
            found => found.map_err(|error| said("look into", error))?,
        };
        let accounts = found.iter().filter_map(|item| item.simplify_dict()?.remove("acct"));
        let database = hex(&database.0);
        let names = accounts.filter_map(|account| {
            let (of, name) = account.split_once(' ')?;
            if of == database { KeyName::from_digits(name) } else { None }
        });
        Ok(names.collect())
    }

    fn read(&mut self, database: DatabaseId, name: KeyName) -> Result<Zeroizing<Vec<u8>>> {
        let found = get_generic_password(&self.service, &account(database, name));
        found.map(Zeroizing::new).map_err(|error| said("read from", error))
    }

    fn write(&mut self, database: DatabaseId, name: KeyName, secret: &[u8]) -> Result<()> {
        let written = set_generic_password(&self.service, &account(database, name), secret);
        written.map_err(|error| said("write to", error))
    }

    fn remove(&mut self, database: DatabaseId, name: KeyName) -> Result<()> {
        match delete_generic_password(&self.service, &account(database, name)) {
            Err(error) if error.code() == NOT_FOUND => Ok(()),
            removed => removed.map_err(|error| said("delete an old root key from", error)),
        }
    }
}

/// `doing` stands before the keychain.
fn said(doing: &str, error: Said) -> Error {
    match error.code() {
        NOT_FOUND => Error::not_found("the entry is not in the login keychain any more"),
        LOCKED => Error::unavailable("the login keychain is locked; unlock it, and try again"),
        code if REFUSED.contains(&code) => Error::denied(format!(
            "the login keychain does not let us {doing} it; allow it when it asks (code {code})"
        )),
        code => Error::unavailable(format!("could not {doing} the login keychain (code {code})")),
    }
}
