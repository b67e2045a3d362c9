//! Logins: so many at a time, so many failures from one place, and what is noted of them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::str;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use pugdb::rights::limits::HASHES_AT_ONCE;
use tokio::sync::Semaphore;
use tokio::task::block_in_place;
use tokio::time::Instant;

use crate::arguments::is;
use crate::call::Call;
use crate::clients::Address;
use crate::denials::{Object, Reason};
use crate::failure::Failure;
use crate::limits::{LOGIN_FAILURE_PAUSE, LOGIN_FAILURES_MAX, LOGIN_SOURCES_MAX};
use crate::notes::Note;

/// Where logins come from, as far as it can be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    V4(Ipv4Addr),
    /// A network: whoever has one address of it has all.
    V6(u64),
    /// Sockets in the file system.
    Local,
    /// All for whom there is no room.
    Others,
}

impl Source {
    fn of(address: &Address) -> Self {
        match address {
            Address::Unix(_) => Self::Local,
            Address::Tcp(address) => match address.ip().to_canonical() {
                IpAddr::V4(address) => Self::V4(address),
                IpAddr::V6(address) => Self::V6(u64::try_from(address.to_bits() >> 64).unwrap_or_default()),
            },
        }
    }
}

/// Failures that count, and since when one goes after the other.
#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    since: Instant,
}

impl Failures {
    /// One is forgotten with each pause.
    fn at(self, now: Instant) -> Self {
        let passed = now.saturating_duration_since(self.since).as_secs() / LOGIN_FAILURE_PAUSE.as_secs();
        let gone = u32::try_from(passed).unwrap_or(u32::MAX);
        match self.count.checked_sub(gone) {
            Some(count) if count > 0 => Self { count, since: self.since + LOGIN_FAILURE_PAUSE * gone },
            _ => Self { count: 0, since: now },
        }
    }
}

/// What bounds the guessing of passwords.
#[derive(Debug)]
pub(crate) struct Logins {
    /// To check a password takes memory and time. Who waits for a turn holds no thread.
    pub(crate) turns: Arc<Semaphore>,
    failures: Mutex<HashMap<Source, Failures>>,
}

impl Logins {
    pub(crate) fn new() -> Self {
        Self { turns: Arc::new(Semaphore::new(HASHES_AT_ONCE)), failures: Mutex::default() }
    }

    /// Whether so few logins from there have failed that one more may be tried.
    fn may_try(&self, source: Source, now: Instant) -> bool {
        let failures = self.failures.lock();
        let known = failures.get(&source).or_else(|| {
            (failures.len() >= LOGIN_SOURCES_MAX).then(|| failures.get(&Source::Others)).flatten()
        });
        known.is_none_or(|known| known.at(now).count < LOGIN_FAILURES_MAX)
    }

    fn note_failure(&self, source: Source, now: Instant) {
        let mut failures = self.failures.lock();
        if failures.len() >= LOGIN_SOURCES_MAX && !failures.contains_key(&source) {
            failures.retain(|_, known| known.at(now).count > 0);
        }
        let has_room = failures.len() < LOGIN_SOURCES_MAX || failures.contains_key(&source);
        let known = failures.entry(if has_room { source } else { Source::Others });
        let known = known.or_insert(Failures { count: 0, since: now });
        *known = known.at(now);
        // So the pause ends at a known time, however many were tried.
        known.count = (known.count + 1).min(LOGIN_FAILURES_MAX);
    }
}

/// Whether a request checks a password: it takes a turn.
pub(crate) fn is_login(arguments: &[Bytes]) -> bool {
    match arguments {
        [name, _, ..] if is(name, "auth") => true,
        [name, _, options @ ..] if is(name, "hello") => options.iter().any(|option| is(option, "auth")),
        _ => false,
    }
}

/// Lets a connection be another user, if it knows the password. Nothing changes if it does not.
pub(crate) fn log_in(
    call: &mut Call<'_>,
    name: &[u8],
    secret: &[u8],
    command: &'static str,
) -> Result<(), Failure> {
    if call.is_in_transaction() {
        return Err(Failure::new("ERR AUTH inside MULTI is not allowed"));
    }
    let shared = Arc::clone(&call.shared);
    let source = Source::of(&call.client.address);
    // No user has a name that is not UTF-8, nor an empty one; it costs what any other wrong one costs.
    let name = str::from_utf8(name).unwrap_or_default();
    let mut user = shared.rights.log_in_again(name, secret);
    if user.is_none() {
        if !shared.logins.may_try(source, Instant::now()) {
            shared.note(&call.client, Note::LoginHeldOff)?;
            return Err(Failure::TOO_MANY_LOGINS);
        }
        user = block_in_place(|| shared.rights.log_in(name, secret));
    }
    if let Some(user) = user {
        // Who is that user already shows nothing new.
        if !call.identity.is(&user) {
            shared.note(&call.client, Note::LoggedIn(&user))?;
        }
        if call.become_user(user) {
            return Ok(());
        }
    }
    shared.logins.note_failure(source, Instant::now());
    // What is no user's name may be somebody's password in the wrong place.
    let known = shared.rights.current().user(name).map(|user| user.name().to_owned());
    let known = known.unwrap_or_else(|| "(unknown)".into());
    // It has failed, whether or not that is noted.
    let _ = shared.note(&call.client, Note::LoginFailed(&known));
    call.note_denial(Reason::Auth, Object::Command(command.into()), &known);
    Err(Failure::WRONG_PASSWORD)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn failures_of_one_place_are_bounded_and_forgotten_one_by_one() {
        let (logins, start) = (Logins::new(), Instant::now());
        let (one, other) = (Source::V4(Ipv4Addr::LOCALHOST), Source::Local);
        for _ in 0..LOGIN_FAILURES_MAX {
            assert!(logins.may_try(one, start));
            logins.note_failure(one, start);
        }
        assert!(!logins.may_try(one, start) && logins.may_try(other, start));
        let later = start + LOGIN_FAILURE_PAUSE;
        assert!(logins.may_try(one, later));
        logins.note_failure(one, later);
        assert!(!logins.may_try(one, later));
        assert!(logins.may_try(one, later + Duration::from_hours(1)));
    }

    #[test]
    fn a_flood_of_places_takes_no_memory_without_bound() {
        let (logins, start) = (Logins::new(), Instant::now());
        for number in 0..3 * u64::try_from(LOGIN_SOURCES_MAX).unwrap() {
            logins.note_failure(Source::V6(number), start);
        }
        assert!(logins.failures.lock().len() <= LOGIN_SOURCES_MAX + 1);
        assert!(!logins.may_try(Source::V6(u64::MAX), start), "those without room share what there is");
        let later = start + Duration::from_hours(1);
        assert!(logins.may_try(Source::V6(u64::MAX), later));
        logins.note_failure(Source::V6(u64::MAX), later);
        assert!(logins.failures.lock().len() < 3, "what is over is forgotten");
    }

    #[test]
    fn a_request_that_checks_a_password_is_known() {
        let is = |line: &str| {
            let words: Vec<Bytes> =
                line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
            is_login(&words)
        };
        assert!(is("auth x") && is("AUTH x y") && is("HELLO 3 AUTH a b") && is("hello 3 setname x auth a b"));
        assert!(!is("auth") && !is("hello") && !is("hello 3") && !is("get auth") && !is("hello 3 setname x"));
    }
}
