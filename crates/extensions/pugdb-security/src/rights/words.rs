//! The language of rights, which is that of Redis's ACLs with a few words more: each word changes a user, and a user is
//! written as the words that make it.

use std::fmt;

use zeroize::Zeroizing;

use super::action::{Access, Categories};
use super::authenticator::Authenticator;
use super::credential::{Credential, ScramVerifier, Verifier, hashed, parse_digest};
use super::grant::{Grant, KeyPattern, Pattern, Rule, What};
use super::limits::{
    CERTIFICATE_BYTES_MAX, CREDENTIALS_MAX, NAME_BYTES_MAX, PASSWORD_BYTES_MAX, PATTERN_BYTES_MAX,
    PATTERNS_MAX, ROLES_OF_USER_MAX, RULES_MAX, SELECTORS_MAX,
};
use super::user::{Grants, User};
use crate::Fingerprint;

/// Why a word is none. The texts are those of Redis where it has some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WordError {
    /// It is not a word of this language.
    Syntax,
    /// There is no such action or category.
    Unknown,
    /// All keys are allowed already.
    AfterAllKeys,
    /// All channels are allowed already.
    AfterAllChannels,
    /// There is no such password to remove.
    NoSuchPassword,
    /// What should be a digest is none.
    Digest,
    /// It is about a part of something that has no parts.
    FirstArgument,
    /// It is about who somebody is, and a role or a selector is nobody.
    NotForGrants,
    /// There are too many of these already, or it is too long.
    TooMuch(&'static str, usize),
}

impl fmt::Display for WordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "Syntax error",
            Self::Unknown => "Unknown command or category name in ACL",
            Self::AfterAllKeys => {
                "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any \
                 effect. Try 'resetkeys' to start with an empty list of patterns"
            }
            Self::AfterAllChannels => {
                "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any \
                 effect. Try 'resetchannels' to start with an empty list of channels"
            }
            Self::NoSuchPassword => "The password you are trying to remove from the user does not exist",
            Self::Digest => {
                "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
            }
            Self::FirstArgument => "Allowing first-arg of a subcommand is not supported",
            Self::NotForGrants => "Only users have passwords, roles and flags",
            Self::TooMuch(what, most) => return write!(f, "No more than {most} {what} are possible"),
        })
    }
}

impl std::error::Error for WordError {}

/// Which names a word may use: the face's actions.
pub type Known<'a> = &'a dyn Fn(&str) -> bool;

/// Adds unless there are too many.
fn push<T>(list: &mut Vec<T>, item: T, what: &'static str, most: usize) -> Result<(), WordError> {
    if list.len() >= most {
        return Err(WordError::TooMuch(what, most));
    }
    list.push(item);
    Ok(())
}

/// Words are separated by blanks, so none is part of one.
fn is_blank(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0 || byte == 0x0b
}

fn pattern(text: &[u8], is_in_selector: bool) -> Result<Pattern, WordError> {
    if text.len() > PATTERN_BYTES_MAX {
        return Err(WordError::TooMuch("bytes in a pattern", PATTERN_BYTES_MAX));
    }
    // A selector ends with the first word that ends with a parenthesis.
    let is_bad = |byte: &u8| is_blank(*byte) || (is_in_selector && matches!(byte, b'(' | b')'));
    if text.iter().any(is_bad) { Err(WordError::Syntax) } else { Ok(Pattern::new(text)) }
}

/// A name of a user, a role or a certificate: no blanks, nothing that cannot be seen.
pub(super) fn name(text: &[u8], most: usize) -> Option<&str> {
    let text = std::str::from_utf8(text).ok()?;
    let is_fine = (1..=most).contains(&text.len())
        && !text.chars().any(|char| char.is_whitespace() || char.is_control() || matches!(char, '(' | ')'));
    is_fine.then_some(text)
}

impl Grant {
    /// Lets a word change this grant; `None` when it is not about grants.
    fn apply(
        &mut self,
        word: &[u8],
        is_in_selector: bool,
        known: Known<'_>,
    ) -> Option<Result<(), WordError>> {
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        if is("allkeys") {
            return Some(self.add_keys(b"*", Access::ReadWrite, is_in_selector));
        } else if is("resetkeys") {
            (self.all_keys, self.keys) = (false, Vec::new());
        } else if is("allchannels") {
            return Some(self.add_channels(b"*", is_in_selector));
        } else if is("resetchannels") {
            (self.all_channels, self.channels) = (false, Vec::new());
        } else if is("allkeyspaces") {
            self.keyspaces = None;
        } else if is("resetkeyspaces") {
            self.keyspaces = Some(Vec::new());
        } else if is("allcommands") {
            self.set_all_actions(true);
        } else if is("nocommands") {
            self.set_all_actions(false);
        } else {
            return match word {
                [b'~', text @ ..] => Some(self.add_keys(text, Access::ReadWrite, is_in_selector)),
                [b'%', rest @ ..] => Some(self.add_keys_with_access(rest, is_in_selector)),
                [b'&', text @ ..] => Some(self.add_channels(text, is_in_selector)),
                [b'+', name @ ..] => Some(self.add_rule(true, name, known)),
                [b'-', name @ ..] if !is_user_word(name) => Some(self.add_rule(false, name, known)),
                _ => word.strip_prefix(b"keyspace:").map(|text| self.add_keyspaces(text, is_in_selector)),
            };
        }
        Some(Ok(()))
    }

    fn set_all_actions(&mut self, allows: bool) {
        (self.all_actions, self.rules) = (allows, Vec::new());
    }

    /// `%R~pattern`, `%W~pattern`, `%RW~pattern`
    fn add_keys_with_access(&mut self, rest: &[u8], is_in_selector: bool) -> Result<(), WordError> {
        let end = rest.iter().position(|byte| *byte == b'~').ok_or(WordError::Syntax)?;
        let (letters, text) = (rest.get(..end).unwrap_or_default(), rest.get(end + 1..).unwrap_or_default());
        let (mut reads, mut writes) = (false, false);
        for letter in letters {
            match letter.to_ascii_uppercase() {
                b'R' if !reads => reads = true,
                b'W' if !writes => writes = true,
                _ => return Err(WordError::Syntax),
            }
        }
        let access = match (reads, writes) {
            (true, true) => Access::ReadWrite,
            (true, false) => Access::Read,
            (false, true) => Access::Write,
            (false, false) => return Err(WordError::Syntax),
        };
        self.add_keys(text, access, is_in_selector)
    }

    fn add_keys(&mut self, text: &[u8], access: Access, is_in_selector: bool) -> Result<(), WordError> {
        let pattern = pattern(text, is_in_selector)?;
        if text == b"*" && access == Access::ReadWrite {
            (self.all_keys, self.keys) = (true, Vec::new());
            return Ok(());
        }
        if self.all_keys {
            return Err(WordError::AfterAllKeys);
        }
        let added = KeyPattern { pattern, access };
        if self.keys.contains(&added) {
            return Ok(());
        }
        push(&mut self.keys, added, "patterns of keys", PATTERNS_MAX)
    }

    fn add_channels(&mut self, text: &[u8], is_in_selector: bool) -> Result<(), WordError> {
        let pattern = pattern(text, is_in_selector)?;
        if text == b"*" {
            (self.all_channels, self.channels) = (true, Vec::new());
            return Ok(());
        }
        if self.all_channels {
            return Err(WordError::AfterAllChannels);
        }
        if self.channels.contains(&pattern) {
            return Ok(());
        }
        push(&mut self.channels, pattern, "patterns of channels", PATTERNS_MAX)
    }

    fn add_keyspaces(&mut self, text: &[u8], is_in_selector: bool) -> Result<(), WordError> {
        let pattern = pattern(text, is_in_selector)?;
        if text.is_empty() {
            return Err(WordError::Syntax);
        }
        let list = self.keyspaces.get_or_insert_default();
        if list.contains(&pattern) {
            return Ok(());
        }
        push(list, pattern, "patterns of keyspaces", PATTERNS_MAX)
    }

    /// `+name`, `-name`, `+@category`
    fn add_rule(&mut self, allows: bool, text: &[u8], known: Known<'_>) -> Result<(), WordError> {
        let text = std::str::from_utf8(text).map_err(|_| WordError::Unknown)?.to_ascii_lowercase();
        if text == "@all" {
            self.set_all_actions(allows);
            return Ok(());
        }
        let what = if let Some(name) = text.strip_prefix('@') {
            What::Category(Categories::named(name).ok_or(WordError::Unknown)?)
        } else if super::is_well_formed(&text) && known(&text) {
            What::Action(text)
        } else if let Some((container, _)) = text.split_once('|')
            && known(container)
        {
            return Err(WordError::FirstArgument);
        } else {
            return Err(WordError::Unknown);
        };
        // The last one counts, so what is about the same, or about a part of it, has no effect any more.
        self.rules.retain(|rule| match (&rule.what, &what) {
            (What::Action(old), What::Action(new)) => {
                old.strip_prefix(new.as_str()).is_none_or(|rest| !rest.is_empty() && !rest.starts_with('|'))
            }
            (old, new) => old != new,
        });
        push(&mut self.rules, Rule { allows, what }, "rules", RULES_MAX)
    }

    /// Writes the words that make it, each behind a blank.
    fn write(&self, line: &mut Vec<u8>) {
        self.write_keys(line);
        self.write_channels(line);
        if let Some(keyspaces) = &self.keyspaces {
            line.extend_from_slice(b" resetkeyspaces");
            for pattern in keyspaces {
                line.extend_from_slice(b" keyspace:");
                line.extend_from_slice(pattern.text());
            }
        }
        line.extend_from_slice(b" ");
        line.extend_from_slice(self.actions().as_bytes());
    }

    fn write_keys(&self, line: &mut Vec<u8>) {
        if self.all_keys {
            line.extend_from_slice(b" ~*");
        }
        for KeyPattern { pattern, access } in &self.keys {
            line.extend_from_slice(match access {
                Access::Read => b" %R~",
                Access::Write => b" %W~",
                Access::ReadWrite => b" ~",
            });
            line.extend_from_slice(pattern.text());
        }
    }

    fn write_channels(&self, line: &mut Vec<u8>) {
        line.extend_from_slice(if self.all_channels { b" &*" } else { b" resetchannels" });
        for pattern in &self.channels {
            line.extend_from_slice(b" &");
            line.extend_from_slice(pattern.text());
        }
    }

    /// The words about actions.
    fn actions(&self) -> String {
        let mut text = String::from(if self.all_actions { "+@all" } else { "-@all" });
        for Rule { allows, what } in &self.rules {
            text.push_str(if *allows { " +" } else { " -" });
            match what {
                What::Action(name) => text.push_str(name),
                What::Category(category) => {
                    text.push('@');
                    text.extend(category.names());
                }
            }
        }
        text
    }
}

/// What `ACL GETUSER` tells of one grant: its words about actions, keys, channels and keyspaces.
pub struct GrantText {
    /// Words about actions.
    pub actions: String,
    /// Patterns of keys.
    pub keys: Vec<u8>,
    /// Patterns of channels.
    pub channels: Vec<u8>,
    /// Patterns of keyspaces; `None` for all.
    pub keyspaces: Option<Vec<u8>>,
}

impl GrantText {
    fn of(grant: &Grant) -> Self {
        let (mut keys, mut channels) = (Vec::new(), Vec::new());
        grant.write_keys(&mut keys);
        grant.write_channels(&mut channels);
        let channels = channels.strip_prefix(b" resetchannels").unwrap_or(&channels);
        let keyspaces = grant.keyspaces.as_ref().map(|patterns| {
            let texts: Vec<&[u8]> = patterns.iter().map(Pattern::text).collect();
            texts.join(&b' ')
        });
        Self {
            actions: grant.actions(),
            keys: keys.trim_ascii_start().to_vec(),
            channels: channels.trim_ascii_start().to_vec(),
            keyspaces,
        }
    }
}

/// What begins with a minus and is no action.
fn is_user_word(name: &[u8]) -> bool {
    name.starts_with(b"role:") || name.starts_with(b"cert:")
}

/// Puts the parts of a selector together that were given as several words: `(~a*` `+get)`.
///
/// # Errors
/// The place of a word whose parenthesis is never closed.
pub fn joined_words(words: &[impl AsRef<[u8]>]) -> Result<Vec<Vec<u8>>, usize> {
    let mut joined: Vec<Vec<u8>> = Vec::new();
    let mut open = None;
    for (place, word) in words.iter().map(AsRef::as_ref).enumerate() {
        match (open, joined.last_mut()) {
            (Some(_), Some(last)) => {
                last.push(b' ');
                last.extend_from_slice(word);
            }
            _ => joined.push(word.to_vec()),
        }
        let begins = open.is_none() && word.starts_with(b"(");
        let is_open = begins || open.is_some();
        open = if is_open && !word.ends_with(b")") { open.or(Some(place)) } else { None };
    }
    open.map_or(Ok(joined), Err)
}

impl Grants {
    /// Lets a word change these grants; `None` when it is not about grants.
    fn apply_word(&mut self, word: &[u8], known: Known<'_>) -> Option<Result<(), WordError>> {
        if word.eq_ignore_ascii_case(b"clearselectors") {
            self.selectors.clear();
            return Some(Ok(()));
        }
        if word.starts_with(b"(") {
            return Some(self.add_selector(word, known));
        }
        self.root.apply(word, false, known)
    }

    /// `(~pattern +action)`
    fn add_selector(&mut self, word: &[u8], known: Known<'_>) -> Result<(), WordError> {
        let inside = word.strip_prefix(b"(").and_then(|word| word.strip_suffix(b")"));
        let mut selector = Grant::default();
        for word in inside.ok_or(WordError::Syntax)?.split(|byte| *byte == b' ') {
            if !word.is_empty() {
                selector.apply(word, true, known).unwrap_or(Err(WordError::Syntax))?;
            }
        }
        push(&mut self.selectors, selector, "selectors", SELECTORS_MAX)
    }

    /// Lets a word change a role.
    ///
    /// # Errors
    /// What is wrong with the word.
    pub fn apply(&mut self, word: &[u8], known: Known<'_>) -> Result<(), WordError> {
        if word.eq_ignore_ascii_case(b"reset") {
            *self = Self::default();
            return Ok(());
        }
        self.apply_word(word, known).unwrap_or(Err(WordError::NotForGrants))
    }

    fn write(&self, line: &mut Vec<u8>) {
        self.root.write(line);
        for selector in &self.selectors {
            line.extend_from_slice(b" (");
            let mut inside = Vec::new();
            selector.write(&mut inside);
            line.extend_from_slice(inside.trim_ascii_start());
            line.push(b')');
        }
    }

    /// The words that make it.
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = Vec::new();
        self.write(&mut line);
        line.trim_ascii_start().to_vec()
    }

    /// What may be done, grant by grant, the root one first.
    pub fn texts(&self) -> Vec<GrantText> {
        std::iter::once(&self.root).chain(&self.selectors).map(GrantText::of).collect()
    }
}

impl User {
    /// Lets a word change this user. A new password costs what a login does.
    ///
    /// # Errors
    /// What is wrong with the word; then nothing has changed.
    pub fn apply(
        &mut self,
        word: &[u8],
        passwords: &Authenticator,
        known: Known<'_>,
    ) -> Result<(), WordError> {
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        if is("on") || is("off") {
            self.is_on = is("on");
        } else if is("nopass") {
            self.needs_no_password = true;
            self.credentials.clear();
        } else if is("resetpass") {
            self.needs_no_password = false;
            self.credentials.clear();
        } else if is("reset") {
            *self = Self::new(&self.name);
        } else if is("sanitize-payload") || is("skip-sanitize-payload") {
            self.skips_sanitizing = is("skip-sanitize-payload");
        } else {
            return match word {
                [b'>', password @ ..] => self.add_password(password, passwords),
                [b'<', password @ ..] => self.remove_password(password, passwords),
                [b'#', digits @ ..] => {
                    let digest = parse_digest(digits).ok_or(WordError::Digest)?;
                    self.add_credential(Credential::Token(digest))
                }
                [b'!', what @ ..] => self.remove_digest(what),
                [b'$', ..] => {
                    let text = std::str::from_utf8(word).map_err(|_| WordError::Syntax)?;
                    let verifier = Verifier::parse(text).ok_or(WordError::Syntax)?;
                    self.add_credential(Credential::Password { verifier, scram: None })
                }
                word if word.starts_with(b"SCRAM-SHA-256$") => self.add_scram(word),
                word => self.apply_named(word, known),
            };
        }
        Ok(())
    }

    /// Words about roles and certificates, and what may be done.
    fn apply_named(&mut self, word: &[u8], known: Known<'_>) -> Result<(), WordError> {
        let certificate = |text| {
            let name = name(text, CERTIFICATE_BYTES_MAX).ok_or(WordError::Syntax)?;
            // However a fingerprint is written, it is the same one.
            Ok(name
                .parse::<Fingerprint>()
                .map_or_else(|_| name.to_owned(), |fingerprint| fingerprint.to_string()))
        };
        let role = |text| name(text, NAME_BYTES_MAX).ok_or(WordError::Syntax);
        if let Some(text) = word.strip_prefix(b"role:") {
            let role = role(text)?.to_owned();
            if self.roles.contains(&role) {
                return Ok(());
            }
            push(&mut self.roles, role, "roles of a user", ROLES_OF_USER_MAX)
        } else if let Some(text) = word.strip_prefix(b"-role:") {
            let role = role(text)?;
            self.roles.retain(|known| known != role);
            Ok(())
        } else if let Some(text) = word.strip_prefix(b"cert:") {
            self.add_credential(Credential::Certificate(certificate(text)?))
        } else if let Some(text) = word.strip_prefix(b"-cert:") {
            let gone = Credential::Certificate(certificate(text)?);
            self.credentials.retain(|known| *known != gone);
            Ok(())
        } else {
            self.grants.apply_word(word, known).unwrap_or(Err(WordError::Syntax))
        }
    }

    fn add_credential(&mut self, credential: Credential) -> Result<(), WordError> {
        if !self.credentials.contains(&credential) {
            push(&mut self.credentials, credential, "credentials of a user", CREDENTIALS_MAX)?;
        }
        self.needs_no_password = false;
        Ok(())
    }

    fn add_password(&mut self, password: &[u8], passwords: &Authenticator) -> Result<(), WordError> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(WordError::TooMuch("bytes in a password", PASSWORD_BYTES_MAX));
        }
        if password.is_empty() {
            return Err(WordError::Syntax);
        }
        let password = Zeroizing::new(password.to_vec());
        // One salt for all passwords of a user: so a login costs the same, however many there are.
        let known = self.credentials.iter().find_map(|credential| match credential {
            Credential::Password { verifier, .. } => Some(verifier),
            Credential::Token(_) | Credential::Certificate(_) => None,
        });
        let (verifier, scram) = passwords.make(&password, known);
        let is_there = |known: &Credential| matches!(known, Credential::Password { verifier: known, .. } if *known == verifier);
        if self.credentials.iter().any(is_there) {
            self.needs_no_password = false;
            return Ok(());
        }
        self.add_credential(Credential::Password { verifier, scram: Some(scram) })
    }

    fn remove_password(&mut self, password: &[u8], passwords: &Authenticator) -> Result<(), WordError> {
        let token = hashed(password);
        let is_it = |credential: &Credential| match credential {
            Credential::Password { verifier, .. } => passwords.matches(verifier, password),
            Credential::Token(digest) => *digest == token,
            Credential::Certificate(_) => false,
        };
        let place = self.credentials.iter().position(is_it).ok_or(WordError::NoSuchPassword)?;
        self.credentials.remove(place);
        Ok(())
    }

    /// `!digest`, `!$argon2id$...`
    fn remove_digest(&mut self, what: &[u8]) -> Result<(), WordError> {
        let is_it: Box<dyn Fn(&Credential) -> bool> = if what.starts_with(b"$") {
            let text = std::str::from_utf8(what).map_err(|_| WordError::Syntax)?;
            let gone = Verifier::parse(text).ok_or(WordError::Syntax)?;
            Box::new(move |known| matches!(known, Credential::Password { verifier, .. } if *verifier == gone))
        } else {
            let gone = parse_digest(what).ok_or(WordError::Digest)?;
            Box::new(move |known| matches!(known, Credential::Token(digest) if *digest == gone))
        };
        let place = self.credentials.iter().position(is_it).ok_or(WordError::NoSuchPassword)?;
        self.credentials.remove(place);
        Ok(())
    }

    /// What stands behind a password is about that.
    fn add_scram(&mut self, word: &[u8]) -> Result<(), WordError> {
        let text = std::str::from_utf8(word).map_err(|_| WordError::Syntax)?;
        let read = ScramVerifier::parse(text).ok_or(WordError::Syntax)?;
        match self.credentials.last_mut() {
            Some(Credential::Password { scram: scram @ None, .. }) => *scram = Some(read),
            _ => return Err(WordError::Syntax),
        }
        Ok(())
    }

    /// Flags, as `ACL GETUSER` tells them.
    pub fn flags(&self) -> Vec<&'static str> {
        let mut flags = vec![if self.is_on { "on" } else { "off" }];
        if self.needs_no_password {
            flags.push("nopass");
        }
        flags.push(if self.skips_sanitizing { "skip-sanitize-payload" } else { "sanitize-payload" });
        flags
    }

    /// What is kept of its credentials, as words.
    pub fn credential_words(&self) -> Vec<String> {
        self.credentials.iter().flat_map(Credential::words).collect()
    }

    /// What it may do beside what its roles may.
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// The words that make this user out of a new one.
    pub fn to_line(&self) -> Vec<u8> {
        let roles = self.roles.iter().map(|role| format!("role:{role}"));
        let flags = self.flags().into_iter().map(str::to_owned);
        let words: Vec<String> = flags.chain(self.credential_words()).chain(roles).collect();
        let mut line = words.join(" ").into_bytes();
        self.grants.write(&mut line);
        line
    }
}
