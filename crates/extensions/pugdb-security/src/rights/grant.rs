//! A grant: what may be done, in which keyspaces, to which keys. A pure check.

use pugdb_core::glob;
use pugdb_core::limits::KEY_BYTES_MAX;

use super::action::{Access, Action, Categories, Denial, Request};

/// A pattern, and the short way to compare with it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    text: Vec<u8>,
    /// Bytes of `text` that every match begins with.
    literal: usize,
    form: Form,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Only the text itself.
    Exact,
    /// All that begin with it: `user:*`.
    Prefix,
    Glob,
}

impl Pattern {
    pub(super) fn new(text: &[u8]) -> Self {
        let literal = glob::literal_prefix(text).len();
        let form = match text.get(literal..).unwrap_or_default() {
            [] => Form::Exact,
            b"*" => Form::Prefix,
            _ => Form::Glob,
        };
        Self { text: text.to_vec(), literal, form }
    }

    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    pub(super) fn matches(&self, text: &[u8]) -> bool {
        let literal = self.text.get(..self.literal).unwrap_or_default();
        match self.form {
            Form::Exact => literal == text,
            Form::Prefix => text.starts_with(literal),
            Form::Glob => text.starts_with(literal) && glob::matches(&self.text, text),
        }
    }

    fn matches_all(&self) -> bool {
        self.text == b"*"
    }
}

/// Keys, and what may happen to them.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct KeyPattern {
    pub(super) pattern: Pattern,
    pub(super) access: Access,
}

impl KeyPattern {
    fn allows(&self, access: Access) -> bool {
        (!access.reads() || self.access.reads()) && (!access.writes() || self.access.writes())
    }
}

/// What a rule is about.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum What {
    /// An action, and those that are parts of it.
    Action(String),
    Category(Categories),
}

impl What {
    fn covers(&self, action: &Action<'_>) -> bool {
        match self {
            Self::Action(name) => {
                let rest = action.name.strip_prefix(name.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('|'))
            }
            Self::Category(category) => action.categories.contains(*category),
        }
    }
}

#[derive(Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) allows: bool,
    pub(super) what: What,
}

/// What may be done, in which keyspaces, to which keys. A new one allows nothing.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Grant {
    /// What no rule is about.
    pub(super) all_actions: bool,
    /// The last one that is about an action counts.
    pub(super) rules: Vec<Rule>,
    pub(super) all_keys: bool,
    pub(super) keys: Vec<KeyPattern>,
    pub(super) all_channels: bool,
    pub(super) channels: Vec<Pattern>,
    /// `None`: all.
    pub(super) keyspaces: Option<Vec<Pattern>>,
}

impl Grant {
    /// Everything.
    pub(super) fn everything() -> Self {
        Self { all_actions: true, all_keys: true, all_channels: true, ..Self::default() }
    }

    pub(super) fn is_everything(&self) -> bool {
        self.all_actions
            && self.rules.is_empty()
            && self.all_keys
            && self.all_channels
            && self.keyspaces.is_none()
    }

    pub(super) fn allows_action(&self, action: &Action<'_>) -> bool {
        self.rules
            .iter()
            .rev()
            .find(|rule| rule.what.covers(action))
            .map_or(self.all_actions, |rule| rule.allows)
    }

    pub(super) fn allows_keyspace(&self, keyspace: &str) -> bool {
        let Some(patterns) = &self.keyspaces else { return true };
        patterns.iter().any(|pattern| pattern.matches(keyspace.as_bytes()))
    }

    pub(super) fn allows_key(&self, key: &[u8], access: Access) -> bool {
        // No entry has such a key; comparing it with patterns would only take time.
        if key.len() > KEY_BYTES_MAX {
            return self.all_keys;
        }
        // Reading and writing may be allowed by different patterns only where one allows both: as in Redis, one has to do.
        self.all_keys || self.keys.iter().any(|keys| keys.allows(access) && keys.pattern.matches(key))
    }

    pub(super) fn allows_all_keys(&self, access: Access) -> bool {
        self.all_keys || self.keys.iter().any(|keys| keys.allows(access) && keys.pattern.matches_all())
    }

    /// Whether this grant allows all of a request.
    pub(super) fn check(&self, request: &Request<'_>) -> Result<(), Denial> {
        if !self.allows_action(&request.action) {
            return Err(Denial::Action);
        }
        let named = request.keys.iter().map(|key| key.keyspace);
        if !request.keyspaces.iter().copied().chain(named).all(|keyspace| self.allows_keyspace(keyspace)) {
            return Err(Denial::Keyspace);
        }
        if let Some(access) = request.whole
            && !self.allows_all_keys(access)
        {
            return Err(Denial::Key(0));
        }
        if let Some(place) = request.keys.iter().position(|used| !self.allows_key(used.key, used.access)) {
            return Err(Denial::Key(place));
        }
        let may = |channel: &&[u8]| self.channels.iter().any(|pattern| pattern.matches(channel));
        match request.channels.iter().position(|channel| !self.all_channels && !may(channel)) {
            Some(place) => Err(Denial::Channel(place)),
            None => Ok(()),
        }
    }
}
