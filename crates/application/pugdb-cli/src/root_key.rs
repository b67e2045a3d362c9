//! Where the root key of an encrypted database is, and the keyring of a checkpoint.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use pugdb::env::Env;
use pugdb::keys::{GivenKey, KEYRING, KeyFile, RootProvider, Vault, VaultCipher};
use pugdb::seam::{Cipher, Plain};
use pugdb::{Builder, Result};

/// What opens an encrypted database.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct KeyArguments {
    /// The root key of an encrypted database
    #[arg(
        long,
        help = "The root key of an encrypted database: file:PATH, made with a new database, or env:VARIABLE, 64 hexadecimal digits",
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
}

impl RootKey {
    pub(crate) fn parse(text: &str) -> std::result::Result<Self, String> {
        match text.split_once(':') {
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            Some(("env", variable)) if !variable.is_empty() => Ok(Self::Environment(variable.to_owned())),
            _ => Err("write file:PATH for a key file, or env:VARIABLE for a variable that holds the key"
                .to_owned()),
        }
    }

    fn provider(&self) -> Result<Arc<dyn RootProvider>> {
        Ok(match self {
            Self::File(path) => Arc::new(KeyFile::new(path)),
            Self::Environment(variable) => Arc::new(GivenKey::from_environment(variable)?),
        })
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

    fn keyring(&self, data: &Path) -> PathBuf {
        self.keyring.clone().unwrap_or_else(|| data.join(KEYRING))
    }

    /// Where the root key of the database in `data` is, if anybody knows.
    pub(crate) fn provider(&self, data: &Path) -> Result<Option<Arc<dyn RootProvider>>> {
        if let Some(root) = &self.root_key {
            return root.provider().map(Some);
        }
        let keyring = self.keyring(data);
        match usual_directory() {
            // What else is wrong with the directory the open will say.
            Some(keys) if Vault::exists(&Env::os(), &keyring).unwrap_or(false) => {
                Ok(KeyFile::find(&Env::os(), &keys, &keyring)
                    .map_err(|error| error.at(keyring.display()))?
                    .map(|found| Arc::new(found) as Arc<dyn RootProvider>))
            }
            _ => Ok(None),
        }
    }

    /// What opens single files of the database in `data`, beside whoever has it open.
    pub(crate) fn cipher(&self, data: &Path) -> Result<Arc<dyn Cipher>> {
        let Some(provider) = self.provider(data)? else { return Ok(Arc::new(Plain)) };
        let vault = Vault::open_beside(&Env::os(), &self.keyring(data), provider)?;
        Ok(Arc::new(VaultCipher::new(vault)))
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
        for text in ["", "file", "file:", "env:", "/keys/a.key", "0123abcd", "vault:x"] {
            assert!(RootKey::parse(text).unwrap_err().contains("file:PATH"), "{text}");
        }
    }
}
