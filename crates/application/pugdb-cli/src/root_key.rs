//! Where the root key of an encrypted database is, and the keyring of a checkpoint.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use pugdb::env::Env;
#[cfg(feature = "os-keyring")]
use pugdb::keys::OsKeyring;
#[cfg(feature = "pkcs11")]
use pugdb::keys::Token;
use pugdb::keys::{GivenKey, KEYRING, KeyFile, Passphrase, RootProvider, Vault, VaultCipher};
use pugdb::seam::{Cipher, Plain};
use pugdb::{Builder, Error, Result};
use zeroize::Zeroizing;

use crate::password;

/// What opens an encrypted database.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct KeyArguments {
    /// The root key of an encrypted database
    #[arg(
        long,
        help = "The root key of an encrypted database: file:PATH, made with a new database; keyring or keyring:NAME, the login keyring; pkcs11:token=LABEL?module-path=FILE, a token; passphrase, which is asked for; env:VARIABLE or command:PROGRAM, 64 hexadecimal digits",
        value_name = "SOURCE", value_parser = RootKey::parse)]
    pub(crate) root_key: Option<RootKey>,
    /// The keyring of the database that a checkpoint was made of [default: KEYRING in its own directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) keyring: Option<PathBuf>,
}

/// Where the root key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RootKey {
    File(PathBuf),
    Environment(String),
    /// Program and arguments.
    Command(Vec<String>),
    Passphrase(PassphraseFrom),
    /// A URI. What is wrong with it is said later: an error of an argument shows the argument, and this one may have a PIN in it.
    #[cfg(feature = "pkcs11")]
    Token(String),
    /// What the entries are called after.
    #[cfg(feature = "os-keyring")]
    Keyring(String),
}

/// What the entries of a login keyring are called after where nobody says it.
#[cfg(feature = "os-keyring")]
const SERVICE: &str = "pugdb";

/// Where a passphrase is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PassphraseFrom {
    Person,
    /// Its first line.
    File(PathBuf),
    Environment(String),
}

impl RootKey {
    pub(crate) fn parse(text: &str) -> std::result::Result<Self, String> {
        let passphrase = |from| Ok(Self::Passphrase(from));
        match text.split_once(':') {
            None if text == "passphrase" => passphrase(PassphraseFrom::Person),
            #[cfg(feature = "os-keyring")]
            None if text == "keyring" => Ok(Self::Keyring(SERVICE.to_owned())),
            #[cfg(feature = "os-keyring")]
            Some(("keyring", service)) => {
                OsKeyring::new(service).map_err(|error| error.to_string())?;
                Ok(Self::Keyring(service.to_owned()))
            }
            #[cfg(feature = "pkcs11")]
            Some(("pkcs11", _)) => Ok(Self::Token(text.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            Some(("env", variable)) if !variable.is_empty() => Ok(Self::Environment(variable.to_owned())),
            Some(("command", words)) if !words.trim().is_empty() => {
                Ok(Self::Command(words.split_whitespace().map(str::to_owned).collect()))
            }
            Some(("passphrase", place)) => match place.split_once(':') {
                Some(("file", path)) if !path.is_empty() => passphrase(PassphraseFrom::File(path.into())),
                Some(("env", variable)) if !variable.is_empty() => {
                    passphrase(PassphraseFrom::Environment(variable.to_owned()))
                }
                _ => Err("a passphrase is asked for, or in passphrase:file:PATH or passphrase:env:VARIABLE".to_owned()),
            },
            _ => Err("write file:PATH for a key file, keyring for the login keyring, pkcs11:token=LABEL?module-path=FILE for a token, \
                      passphrase to be asked for one, env:VARIABLE for a variable that holds the key, or command:PROGRAM for a program that prints it"
                .to_owned()),
        }
    }

    /// `is_new`: there is no database yet that it has opened before.
    fn provider(&self, is_new: bool) -> Result<Arc<dyn RootProvider>> {
        Ok(match self {
            Self::File(path) => Arc::new(KeyFile::new(path)),
            Self::Environment(variable) => Arc::new(GivenKey::from_environment(variable)?),
            Self::Command(words) => Arc::new(GivenKey::from_command(words)?),
            Self::Passphrase(from) => {
                let text = from.read(is_new)?;
                Arc::new(Passphrase::new(text.as_str())?)
            }
            #[cfg(feature = "pkcs11")]
            Self::Token(uri) => Arc::new(Token::new(uri)?.asking(|token| {
                let pin = password::asked_pin(token).map_err(|failure| Error::invalid(failure.message))?;
                Ok(pin.as_str().to_owned())
            })),
            #[cfg(feature = "os-keyring")]
            Self::Keyring(service) => Arc::new(OsKeyring::new(service)?),
        })
    }
}

impl PassphraseFrom {
    fn read(&self, is_new: bool) -> Result<Zeroizing<String>> {
        match self {
            Self::Person => {
                password::asked_passphrase(is_new).map_err(|failure| Error::invalid(failure.message))
            }
            Self::File(path) => password::from_file(path).map_err(|failure| Error::invalid(failure.message)),
            Self::Environment(variable) => std::env::var(variable).map(Zeroizing::new).map_err(|_| {
                Error::not_found(format!(
                    "the environment variable {variable} is not set; it has to hold the passphrase"
                ))
            }),
        }
    }
}

impl KeyArguments {
    /// The same builder, with the root key of the database in `data` if one was named, or lies where `init` puts them.
    pub(crate) fn apply(&self, mut builder: Builder, data: &Path) -> Result<Builder> {
        if let Some(provider) = self.provider(data)? {
            builder = builder.root_key(provider);
        }
        if let Some(keyring) = &self.keyring {
            builder = builder.keyring(keyring);
        }
        Ok(builder)
    }

    /// Whether a root key was named, or lies where `init` puts them. Nobody is asked, and nothing is run.
    pub(crate) fn is_there(&self, data: &Path) -> Result<bool> {
        Ok(self.root_key.is_some() || self.provider(data)?.is_some())
    }

    pub(crate) fn keyring(&self, data: &Path) -> PathBuf {
        self.keyring.clone().unwrap_or_else(|| data.join(KEYRING))
    }

    /// Where the root key of the database in `data` is, if anybody knows.
    pub(crate) fn provider(&self, data: &Path) -> Result<Option<Arc<dyn RootProvider>>> {
        let keyring = self.keyring(data);
        if let Some(root) = &self.root_key {
            let is_new = !Vault::exists(&Env::os(), &keyring)?;
            return root.provider(is_new).map(Some);
        }
        Ok(usual_key_file(&keyring)?.map(|found| Arc::new(found) as Arc<dyn RootProvider>))
    }

    /// The key file of the database in `data`, when it is one that has the root key and anybody knows where it is.
    pub(crate) fn key_file(&self, data: &Path) -> Result<Option<PathBuf>> {
        match &self.root_key {
            Some(RootKey::File(path)) => Ok(Some(path.clone())),
            Some(_) => Ok(None),
            None => Ok(usual_key_file(&self.keyring(data))?.map(|found| found.path().to_owned())),
        }
    }

    /// What opens single files of the database in `data`, beside whoever has it open.
    pub(crate) fn cipher(&self, data: &Path) -> Result<Arc<dyn Cipher>> {
        let Some(provider) = self.provider(data)? else { return Ok(Arc::new(Plain)) };
        let vault = Vault::open_beside(&Env::os(), &self.keyring(data), provider)?;
        Ok(Arc::new(VaultCipher::new(vault)))
    }
}

/// The key file of a database where `init` puts it.
fn usual_key_file(keyring: &Path) -> Result<Option<KeyFile>> {
    match usual_directory() {
        // What else is wrong with the directory the open will say.
        Some(keys) if Vault::exists(&Env::os(), keyring).unwrap_or(false) => {
            KeyFile::find(&Env::os(), &keys, keyring).map_err(|error| error.at(keyring.display()))
        }
        _ => Ok(None),
    }
}

/// Where `init` puts key files, and every command looks for them: `pugdb/keys` in the user's configuration directory, which no copy of a
/// data directory takes along.
pub(crate) fn usual_directory() -> Option<PathBuf> {
    let given = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let user = given("XDG_CONFIG_HOME").or_else(|| Some(given("HOME")?.join(".config")))?;
    Some(user.join("pugdb/keys"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_says_what_it_is() {
        assert_eq!(RootKey::parse("file:/keys/a.key"), Ok(RootKey::File("/keys/a.key".into())));
        assert_eq!(RootKey::parse("file:C:a"), Ok(RootKey::File("C:a".into())));
        assert_eq!(RootKey::parse("env:KEY"), Ok(RootKey::Environment("KEY".to_owned())));
        assert_eq!(RootKey::parse("passphrase"), Ok(RootKey::Passphrase(PassphraseFrom::Person)));
        let from = |text| RootKey::parse(text).unwrap();
        assert_eq!(from("passphrase:file:/a:b"), RootKey::Passphrase(PassphraseFrom::File("/a:b".into())));
        assert_eq!(
            from("passphrase:env:WORDS"),
            RootKey::Passphrase(PassphraseFrom::Environment("WORDS".to_owned()))
        );
        let words = ["pass", "show", "pugdb"].map(str::to_owned).to_vec();
        assert_eq!(from("command:pass  show pugdb"), RootKey::Command(words));
        assert_eq!(from("keyring"), RootKey::Keyring("pugdb".to_owned()));
        assert_eq!(from("keyring:my orders"), RootKey::Keyring("my orders".to_owned()));
        assert!(RootKey::parse("keyring:").unwrap_err().contains("1 to 128 bytes"));
        for text in ["passphrase:", "passphrase:words of mine", "passphrase:file:", "passphrase:env:"] {
            assert!(RootKey::parse(text).unwrap_err().contains("passphrase:file:PATH"), "{text}");
        }
        for text in
            ["command:", "command: ", "", "file", "file:", "env:", "/keys/a.key", "0123abcd", "vault:x"]
        {
            assert!(RootKey::parse(text).unwrap_err().contains("file:PATH"), "{text}");
        }
    }
}
