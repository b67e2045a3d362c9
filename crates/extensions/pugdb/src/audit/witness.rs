//! Who acts, and what is recorded of what the database itself does: before it is done, and what came of it.

use std::cell::RefCell;
use std::sync::{Arc, Weak};

use pugdb_core::{Error, Result};
use pugdb_security::audit::{Action, Actor, Count, Event, ObjectKind, Outcome, Witness};

use super::options::{AuditRule, is_range_recorded, is_recorded};
use super::writer::Core;
use crate::batch::Changes;
use crate::database::Inner;
use crate::space::Space;

thread_local! {
    static ACTING: RefCell<Vec<Actor>> = const { RefCell::new(Vec::new()) };
}

/// Does something in somebody's name: what the audit log records of it on this thread has this actor. For servers, whose users act through it.
///
/// ```
/// use pugdb::audit::{Action, Actor, AuditOptions, acting_as};
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("data");
/// let db = pugdb::Database::builder().audit(AuditOptions::default()).open(&path)?;
/// acting_as(&Actor::new("ada", "192.0.2.7:4711"), || db.keyspace("users"))?;
/// let mut actors = Vec::new();
/// db.audit().unwrap().log().records(&mut |record| {
///     if record.event.action == Action::KeyspaceCreate {
///         actors.push(record.actor.name().to_owned());
///     }
///     Ok(true)
/// })?;
/// assert_eq!(actors, ["ada", "ada"]);
/// # Ok::<(), pugdb::Error>(())
/// ```
pub fn acting_as<R>(actor: &Actor, work: impl FnOnce() -> R) -> R {
    /// Also when the work panics.
    struct Ends;

    impl Drop for Ends {
        fn drop(&mut self) {
            ACTING.with_borrow_mut(Vec::pop);
        }
    }

    ACTING.with_borrow_mut(|acting| acting.push(actor.clone()));
    let _ends = Ends;
    work()
}

/// Who acts on this thread, if somebody has said so.
pub(super) fn acting() -> Option<Actor> {
    // Also when the thread ends.
    ACTING.try_with(|acting| acting.borrow().last().cloned()).ok().flatten()
}

/// Something that was begun.
#[derive(Clone, Copy)]
pub(crate) struct Begun(Option<u64>);

impl Core {
    fn actor(&self) -> Actor {
        acting().unwrap_or_else(|| self.options.actor.clone())
    }

    /// An event of whoever acts here.
    pub(crate) fn note(&self, event: Event) -> Result<Begun> {
        self.record(&self.actor(), event).map(Begun)
    }

    /// What came of something that was begun. It is done or not all the same, so nobody is told that this could not be noted.
    pub(crate) fn ended(&self, begun: Begun, event: Event, outcome: Result<(), &Error>) {
        let event = match outcome {
            Ok(()) => Event { outcome: Outcome::Done, ..event },
            Err(error) => event.failed(error.kind()),
        };
        let event = match begun.0 {
            Some(number) => event.count(Count::Began, number),
            None => event,
        };
        let _ = self.record(&self.actor(), event);
    }

    pub(crate) fn rules(&self) -> Option<&[AuditRule]> {
        Some(&*self.options.rules).filter(|rules| !rules.is_empty())
    }
}

/// Does something that the audit log has to have, if there is one: first that it is about to be done, then what came of it.
pub(crate) fn witnessed<T>(
    audit: Option<&Arc<Core>>,
    event: impl FnOnce(&Core) -> Event,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let Some(core) = audit else { return work() };
    let event = event(core);
    let begun = core.note(event.clone())?;
    let outcome = work();
    core.ended(begun, event, outcome.as_ref().map(drop));
    outcome
}

/// An event about a keyspace.
pub(crate) fn about_keyspace(core: &Core, action: Action, name: &str) -> Event {
    Event::begun(action).on(core.object(ObjectKind::Keyspace, name))
}

/// What is recorded of keys that are changed.
pub(crate) struct KeyWitness(pub(crate) Weak<Core>);

impl Witness for KeyWitness {
    fn before(&self, event: Event) -> Result<u64> {
        let core = self.0.upgrade().ok_or_else(|| Error::closed("the database was closed; open it again"))?;
        Ok(core.note(event)?.0.unwrap_or(0))
    }

    fn after(&self, begun: u64, event: Event, outcome: Result<(), &Error>) {
        if let Some(core) = self.0.upgrade() {
            core.ended(Begun(Some(begun).filter(|begun| *begun > 0)), event, outcome);
        }
    }
}

/// Records reads of keys, where a rule asks for it.
#[inline]
pub(crate) fn reading<'a>(
    inner: &Inner,
    space: &Space,
    keys: impl IntoIterator<Item = &'a [u8]>,
) -> Result<()> {
    match inner.audit().and_then(|core| Some((core, core.rules()?))) {
        None => Ok(()),
        Some((core, rules)) => accesses(core, rules, space, keys, Action::Read).map(drop),
    }
}

/// Records that a range is read, where a rule asks for it.
pub(crate) fn scanning(inner: &Inner, space: &Space) -> Result<()> {
    let Some((core, rules)) = inner.audit().and_then(|core| Some((core, core.rules()?))) else {
        return Ok(());
    };
    range(core, rules, space, Action::Read)
}

/// Records that sorted files come in, where a rule asks for it.
pub(crate) fn taking_in(inner: &Inner, space: &Space) -> Result<()> {
    let Some((core, rules)) = inner.audit().and_then(|core| Some((core, core.rules()?))) else {
        return Ok(());
    };
    range(core, rules, space, Action::Write)
}

/// Commits what the audit log has to have of it first: keyspaces that are emptied or exchanged, and writes by rule. Of a write that was recorded
/// another record follows only if it fails.
pub(crate) fn committing<T>(core: &Core, changes: &Changes, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let rules = core.rules();
    if rules.is_none() && changes.truncated.is_empty() && changes.swapped.is_empty() {
        return work();
    }
    let mut begun = Vec::new();
    let truncated = changes.truncated.iter();
    let truncated = truncated.map(|space| about_keyspace(core, Action::KeyspaceTruncate, &space.name()));
    let swapped = changes.swapped.iter().map(|(one, other)| {
        let event = about_keyspace(core, Action::KeyspaceSwap, &one.name());
        event.on(core.object(ObjectKind::Keyspace, &*other.name()))
    });
    for event in truncated.chain(swapped) {
        begun.push((core.note(event.clone())?, event));
    }
    let mut writes = Vec::new();
    for part in changes.parts.iter().filter(|_| rules.is_some()) {
        let rules = rules.unwrap_or_default();
        let keys = part.ops.iter().filter_map(|op| op.entry()).map(|op| op.key);
        let noted = accesses(core, rules, &part.space, keys, Action::Write)?;
        writes.extend(noted);
        if part.ops.iter().any(|op| op.entry().is_none()) {
            range(core, rules, &part.space, Action::Write)?;
        }
    }
    let outcome = work();
    let told = outcome.as_ref().map(drop);
    // Of a write that was done the record was enough.
    let writes = writes.into_iter().filter(|_| told.is_err());
    for (begun, event) in begun.into_iter().chain(writes) {
        core.ended(begun, event, told);
    }
    outcome
}

/// Records accesses to those of these keys that a rule is about: one record for all of them. `None` when there are none.
fn accesses<'a>(
    core: &Core,
    rules: &[AuditRule],
    space: &Space,
    keys: impl IntoIterator<Item = &'a [u8]>,
    action: Action,
) -> Result<Option<(Begun, Event)>> {
    let name = space.name();
    let is_read = action == Action::Read;
    let mut keys = keys.into_iter().filter(|key| is_recorded(rules, &name, key, is_read)).peekable();
    if keys.peek().is_none() {
        return Ok(None);
    }
    let mut event = access(core, space, &name, action);
    let before = event.objects.len();
    event.objects.extend(keys.map(|key| core.object(ObjectKind::Key, key)));
    let count = (event.objects.len() - before) as u64;
    event = event.count(Count::Keys, count);
    Ok(Some((core.note(event.clone())?, event)))
}

/// A range has no keys that could be named.
fn range(core: &Core, rules: &[AuditRule], space: &Space, action: Action) -> Result<()> {
    let name = space.name();
    if !is_range_recorded(rules, &name, action == Action::Read) {
        return Ok(());
    }
    core.note(access(core, space, &name, action)).map(drop)
}

fn access(core: &Core, space: &Space, name: &str, action: Action) -> Event {
    about_keyspace(core, action, name).count(Count::Keyspace, u64::from(space.id.0))
}
