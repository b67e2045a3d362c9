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
    /// The same builder, for an encrypted database if a root key was named.
    pub(crate) fn apply(&self, mut builder: Builder) -> Result<Builder> {
        if let Some(root) = &self.root_key {
            builder = builder.root_key(root.provider()?);
        }
        if let Some(keyring) = &self.keyring {
            builder = builder.keyring(keyring);
        }
        Ok(builder)
    }

    /// What opens single files of the database in `data`, beside whoever has it open.
    pub(crate) fn cipher(&self, data: &Path) -> Result<Arc<dyn Cipher>> {
        let Some(root) = &self.root_key else { return Ok(Arc::new(Plain)) };
        let keyring = self.keyring.clone().unwrap_or_else(|| data.join(KEYRING));
        let vault = Vault::open_beside(&Env::os(), &keyring, root.provider()?)?;
        Ok(Arc::new(VaultCipher::new(vault)))
    }
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
