//! The login keyring of a Linux desktop: the Secret Service API (0.2, freedesktop.org), which GNOME Keyring, `KWallet` and `KeePassXC` have.

use pugdb_core::{DatabaseId, Error, Result};
use zeroize::Zeroizing;

use super::dbus::{Body, Bus, Failure, Method, Reader};
use super::kept::sync_all_disks;
use super::{Entries, KeyName, hex};

const NAME: &str = "org.freedesktop.secrets";
const ROOT: &str = "/org/freedesktop/secrets";
const SERVICE: &str = "org.freedesktop.Secret.Service";
const COLLECTION: &str = "org.freedesktop.Secret.Collection";
const ITEM: &str = "org.freedesktop.Secret.Item";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// What stands for "no object": nobody has to be asked, no collection is the default.
const NONE: &str = "/";
/// It lies in memory, and is gone with the session.
const FLEETING: &str = "/org/freedesktop/secrets/collection/session";
/// Tells our entries from those of others.
const SCHEMA: (&str, &str) = ("xdg:schema", "org.pugdb.RootKey");

/// The service, with a session open in which secrets travel as they are: the bus is a socket that only this user and root can read.
pub(super) struct SecretService {
    bus: Bus,
    session: String,
    service: String,
}

impl SecretService {
    pub(super) fn open(service: &str) -> Result<Self> {
        let mut opened = Self { bus: Bus::session()?, session: String::new(), service: service.to_owned() };
        let body = Body::new("sv").string("plain").signature("s").string("");
        opened.session = opened.call((ROOT, SERVICE, "OpenSession"), &body, "vo", |values| {
            values.signature()?;
            values.string()?;
            Ok(values.string()?.to_owned())
        })?;
        Ok(opened)
    }

    /// What the answer to a call says, which has these types.
    fn call<T>(
        &mut self,
        (path, interface, name): (&str, &str, &str),
        body: &Body,
        signature: &str,
        read: impl FnOnce(&mut Reader<'_>) -> std::result::Result<T, Failure>,
    ) -> Result<T> {
        let method = Method { destination: NAME, path, interface, name };
        let answer = self.bus.call(method, body);
        answer
            .and_then(|answer| read(&mut answer.values(signature)?))
            .map_err(|failure| failed(name, failure))
    }

    /// The entries of a database, wherever in the keyring they are.
    fn items(&mut self, database: DatabaseId, name: Option<KeyName>) -> Result<Vec<String>> {
        let (database, name) = (hex(&database.0), name.map(KeyName::digits));
        let mut attributes = vec![SCHEMA, ("database", &database)];
        attributes.extend(name.as_ref().map(|name| ("key", name.as_str())));
        let body = Body::new("a{ss}").strings(&attributes);
        let (mut open, locked) = self.call((ROOT, SERVICE, "SearchItems"), &body, "aoao", |values| {
            Ok((values.paths()?, values.paths()?))
        })?;
        self.unlock(&locked)?;
        open.extend(locked);
        Ok(open)
    }

    /// Opens what can be opened without asking anybody.
    fn unlock(&mut self, paths: &[String]) -> Result<()> {
        if paths.is_empty() {
            return Ok(());
        }
        let body = Body::new("ao").array(4, |body| paths.iter().fold(body, |body, path| body.string(path)));
        let prompt = self.call((ROOT, SERVICE, "Unlock"), &body, "aoo", |values| {
            values.paths()?;
            Ok(values.string()?.to_owned())
        })?;
        if prompt == NONE { Ok(()) } else { Err(locked()) }
    }

    /// Where new entries go.
    fn collection(&mut self) -> Result<String> {
        let body = Body::new("s").string("default");
        let path =
            self.call((ROOT, SERVICE, "ReadAlias"), &body, "o", |values| Ok(values.string()?.to_owned()))?;
        match path.as_str() {
            NONE => Err(Error::not_found(
                "there is no login keyring yet: log in to the desktop, or make one with its program for passwords and keys",
            )),
            FLEETING => Err(Error::unavailable(
                "the keyring is one that is forgotten when the session ends; make a lasting one the default",
            )),
            _ => Ok(path),
        }
    }
}

/// What an entry is called for people.
fn label(service: &str, database: &str) -> String {
    format!("PugDB root key for {service}, database {database}")
}

impl Entries for SecretService {
    fn names(&mut self, database: DatabaseId) -> Result<Vec<KeyName>> {
        let mut names = Vec::new();
        for item in self.items(database, None)? {
            let body = Body::new("ss").string(ITEM).string("Attributes");
            let name = self.call((&item, PROPERTIES, "Get"), &body, "v", |values| {
                if values.signature()? != "a{ss}" {
                    return Err(Failure::Garbled);
                }
                let mut pairs = values.array(8)?;
                let mut name = None;
                while !pairs.is_empty() {
                    pairs.align(8)?;
                    let (key, value) = (pairs.string()?, pairs.string()?);
                    if key == "key" {
                        name = KeyName::from_digits(value);
                    }
                }
                Ok(name)
            })?;
            names.extend(name);
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    fn read(&mut self, database: DatabaseId, name: KeyName) -> Result<Zeroizing<Vec<u8>>> {
        let item = self.items(database, Some(name))?.into_iter().next().ok_or_else(|| {
            Error::not_found(format!("entry {} is not in the keyring any more", name.digits()))
        })?;
        let body = Body::new("o").string(&self.session);
        self.call((&item, ITEM, "GetSecret"), &body, "(oayays)", |values| {
            values.string()?;
            values.byte_array()?;
            Ok(Zeroizing::new(values.byte_array()?.to_vec()))
        })
    }

    fn write(&mut self, database: DatabaseId, name: KeyName, secret: &[u8]) -> Result<()> {
        let collection = self.collection()?;
        self.unlock(std::slice::from_ref(&collection))?;
        let (database, name) = (hex(&database.0), name.digits());
        let attributes = [SCHEMA, ("service", &self.service), ("database", &database), ("key", &name)];
        let body = Body::new("a{sv}(oayays)b").array(8, |body| {
            let body = body.align(8).string("org.freedesktop.Secret.Item.Label").signature("s");
            let body = body.string(&label(&self.service, &database));
            body.align(8)
                .string("org.freedesktop.Secret.Item.Attributes")
                .signature("a{ss}")
                .strings(&attributes)
        });
        let secret =
            body.align(8).string(&self.session).byte_array(b"").byte_array(secret).string("text/plain");
        let (item, prompt) =
            self.call((&collection, COLLECTION, "CreateItem"), &secret.bool(false), "oo", |values| {
                Ok((values.string()?.to_owned(), values.string()?.to_owned()))
            })?;
        if item == NONE || prompt != NONE {
            return Err(locked());
        }
        // GNOME Keyring syncs its file, and not the directory that it is renamed in.
        sync_all_disks();
        Ok(())
    }

    fn remove(&mut self, database: DatabaseId, name: KeyName) -> Result<()> {
        for item in self.items(database, Some(name))? {
            let prompt = self.call((&item, ITEM, "Delete"), &Body::new(""), "o", |values| {
                Ok(values.string()?.to_owned())
            })?;
            if prompt != NONE {
                return Err(Error::unavailable(format!(
                    "the keyring asks somebody before it deletes entry {}, an old root key; delete it with its program for passwords and keys",
                    name.digits()
                )));
            }
        }
        sync_all_disks();
        Ok(())
    }
}

fn locked() -> Error {
    Error::unavailable(
        "the login keyring is locked; unlock it, by logging in to the desktop or with its program for passwords and keys, and try again",
    )
}

/// `doing`: the method that was called.
fn failed(doing: &str, failure: Failure) -> Error {
    match failure {
        Failure::Io(error) => Error::io(format!("speak to the login keyring ({doing})"), error),
        Failure::Garbled => Error::unavailable(format!(
            "the login keyring answers {doing} with something else than the Secret Service API has"
        )),
        Failure::Said(name) => said(doing, &name),
    }
}

fn said(doing: &str, name: &str) -> Error {
    let last = name.rsplit('.').next().unwrap_or_default();
    match last {
        "IsLocked" => locked(),
        "ServiceUnknown" | "NameHasNoOwner" | "ExecFailed" | "ChildExited" | "ServiceNotFound" => {
            Error::unavailable(
                "nothing in this session keeps a login keyring: start one (GNOME Keyring, KWallet, KeePassXC), or take another root key, as file:PATH",
            )
        }
        "NoSuchObject" | "UnknownObject" => Error::not_found(format!(
            "the login keyring does not have any more what it had a moment ago ({doing}); try again"
        )),
        _ => Error::unavailable(format!("the login keyring refuses {doing}: {}", plain(name))),
    }
}

/// The name of an error, of which we do not know who has made it up.
fn plain(name: &str) -> String {
    let is_plain = |letter: &char| letter.is_ascii_alphanumeric() || ['.', '_'].contains(letter);
    name.chars().filter(is_plain).take(100).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use pugdb_core::ErrorKind;

    use super::super::dbus::tests::{answer, bus_that_says, error};
    use super::*;

    const DATABASE: DatabaseId = DatabaseId([1; 16]);
    const NAME: KeyName = KeyName([2; 8]);

    fn service(messages: &[Vec<u8>]) -> (SecretService, UnixStream) {
        let (bus, theirs) = bus_that_says(messages);
        (SecretService { bus, session: "/s".to_owned(), service: "pugdb".to_owned() }, theirs)
    }

    fn paths(body: Body, paths: &[&str]) -> Body {
        body.align(4).array(4, |body| paths.iter().fold(body, |body, path| body.string(path)))
    }

    /// What a search has found.
    fn found(call: u32, open: &[&str], locked: &[&str]) -> Vec<u8> {
        answer(call, &paths(paths(Body::new("aoao"), open), locked))
    }

    fn path(call: u32, path: &str) -> Vec<u8> {
        answer(call, &Body::new("o").string(path))
    }

    fn refusal<T>(outcome: Result<T>) -> (ErrorKind, String) {
        let error = outcome.map(drop).unwrap_err();
        (error.kind(), error.to_string())
    }

    #[test]
    fn a_locked_keyring_says_so_wherever_it_is_met() {
        let prompt = |call| answer(call, &paths(Body::new("aoo"), &[]).string("/prompt"));
        let (mut locked, _bus) = service(&[found(1, &[], &["/a"]), prompt(2)]);
        assert!(refusal(locked.names(DATABASE)).1.contains("is locked; unlock it"));
        let (mut locked, _bus) = service(&[path(1, "/login"), prompt(2)]);
        assert!(refusal(locked.write(DATABASE, NAME, b"secret")).1.contains("is locked"));
        let no_item = answer(3, &Body::new("oo").string("/").string("/prompt"));
        let unlocked = answer(2, &paths(Body::new("aoo"), &["/login"]).string("/"));
        let (mut locked, _bus) = service(&[path(1, "/login"), unlocked, no_item]);
        assert!(refusal(locked.write(DATABASE, NAME, b"secret")).1.contains("is locked"));
        let is_locked = error(1, "org.freedesktop.Secret.Error.IsLocked");
        let (mut locked, _bus) = service(&[is_locked]);
        let (kind, message) = refusal(locked.read(DATABASE, NAME));
        assert!(kind == ErrorKind::Unavailable && message.contains("is locked"), "{message}");
    }

    #[test]
    fn what_opens_without_a_question_is_used() {
        let unlocked = answer(2, &paths(Body::new("aoo"), &["/a"]).string("/"));
        let secret =
            Body::new("(oayays)").string("/s").byte_array(b"").byte_array(b"5ec2e7").string("text/plain");
        let (mut opened, _bus) = service(&[found(1, &[], &["/a"]), unlocked, answer(3, &secret)]);
        assert_eq!(opened.read(DATABASE, NAME).unwrap().as_slice(), b"5ec2e7");
    }

    #[test]
    fn a_root_key_is_not_put_where_it_is_forgotten() {
        let (mut fleeting, _bus) = service(&[path(1, FLEETING)]);
        let (kind, message) = refusal(fleeting.write(DATABASE, NAME, b"secret"));
        assert!(kind == ErrorKind::Unavailable && message.contains("lasting one"), "{message}");
        let (mut none, _bus) = service(&[path(1, NONE)]);
        let (kind, message) = refusal(none.write(DATABASE, NAME, b"secret"));
        assert!(kind == ErrorKind::NotFound && message.contains("no login keyring yet"), "{message}");
    }

    #[test]
    fn a_deletion_that_asks_somebody_is_not_done() {
        let (mut asks, _bus) = service(&[found(1, &["/a"], &[]), path(2, "/prompt")]);
        let (kind, message) = refusal(asks.remove(DATABASE, NAME));
        assert!(kind == ErrorKind::Unavailable && message.contains("asks somebody"), "{message}");
        let (mut none, _bus) = service(&[found(1, &[], &[])]);
        none.remove(DATABASE, NAME).unwrap();
    }

    #[test]
    fn errors_and_answers_of_another_kind_say_what_to_do() {
        for (name, kind, says) in [
            ("org.freedesktop.DBus.Error.ServiceUnknown", ErrorKind::Unavailable, "start one (GNOME Keyring"),
            ("org.freedesktop.Secret.Error.NoSuchObject", ErrorKind::NotFound, "try again"),
            ("a\nb\u{9b}.Odd", ErrorKind::Unavailable, "refuses SearchItems: ab.Odd"),
        ] {
            let (mut refusing, _bus) = service(&[error(1, name)]);
            let (found, message) = refusal(refusing.names(DATABASE));
            assert!(found == kind && message.contains(says), "{message}");
        }
        let (mut odd, _bus) = service(&[path(1, "/a")]);
        assert!(refusal(odd.names(DATABASE)).1.contains("something else than the Secret Service API has"));
        let (mut gone, bus) = service(&[]);
        drop(bus);
        assert!(refusal(gone.names(DATABASE)).1.contains("speak to the login keyring"));
    }
}
