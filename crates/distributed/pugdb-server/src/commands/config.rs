//! `CONFIG`: a table of the settings that Redis clients ask for. Each says where its value comes from, and whether it can
//! be set: some take effect, some have no meaning here, and the others are refused with the reason.

use std::path::Path;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use pugdb::{Durability, glob};
use pugdb_wire::resp::Reply;
use pugdb_wire::resp::limits::BULK_BYTES_MAX;

use super::table::{Command, commands};
use super::{acl, text};
use crate::arguments::{integer, is};
use crate::call::Call;
use crate::failure::Failure;
use crate::limits::{DATABASES, SLOWLOG_ENTRIES_MAX};
use crate::shared::Shared;
use crate::tls::Tls;

#[rustfmt::skip]
pub(super) const SUBCOMMANDS: &[Command] = commands! {
    "config|get" -3 [Admin Loading Dangerous] [] Server "2.0.0" Run(get) "pattern [pattern ...]" "Shows settings." "Only the settings listed below exist.";
    "config|resetstat" 2 [Admin Loading Dangerous] [] Server "2.0.0" Run(resetstat) "" "Sets the counters of INFO to zero." "";
    "config|rewrite" 2 [Admin Loading Dangerous] [] Server "2.8.0" Run(rewrite) "" "Writes settings to the configuration file." "There is none that the server would write: it is an error.";
    "config|set" -4 [Admin Loading Dangerous] [] Server "2.0.0" Run(set) "parameter value [parameter value ...]" "Changes settings, all of them or none." "Some have no effect and some are refused, as listed below. A change lasts until the server ends.";
};

/// One setting.
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    get: fn(&Shared) -> String,
    pub(crate) set: Set,
    /// One sentence.
    pub(crate) about: &'static str,
}

/// Lets a number take effect.
type Apply = fn(&Shared, i64);

/// What `CONFIG SET` is going to change.
enum Change {
    Number(i64, Apply),
    Reload,
}

/// What `CONFIG SET` does with a setting.
pub(crate) enum Set {
    /// Takes effect at once. A number within these bounds, given to the function.
    Number(i64, i64, Apply),
    /// The default user's password.
    Password,
    /// One of these words is accepted, any if there are none, and nothing changes.
    NoEffect(&'static [&'static str]),
    /// Nothing but its present value is accepted; the reason is told.
    Fixed(&'static str),
    /// The same, and the files of TLS are read again.
    Reload(&'static str),
}

const AT_THE_START: &str = "it is chosen when the server starts";
const YES_OR_NO: &[&str] = &["yes", "no"];

/// All settings, in the order of their names.
#[rustfmt::skip]
pub(crate) static SETTINGS: &[Setting] = &[
    Setting { name: "activedefrag", get: |_| "no".into(), set: Set::NoEffect(YES_OR_NO), about: "Memory is not defragmented." },
    Setting { name: "appendfsync", get: appendfsync, set: Set::Fixed("the durability is chosen when the server starts, by --durability"), about: "`always` for the durabilities `sync` and `group`, `everysec` for `periodic`, `no` for `os`." },
    Setting { name: "appendonly", get: |_| "yes".into(), set: Set::NoEffect(YES_OR_NO), about: "The log is always written." },
    Setting { name: "bind", get: bind, set: Set::Fixed(AT_THE_START), about: "Where it listens." },
    Setting { name: "databases", get: |_| DATABASES.to_string(), set: Set::Fixed("there are always as many"), about: "The databases of `SELECT`." },
    Setting { name: "hash-max-listpack-entries", get: |_| "128".into(), set: Set::NoEffect(&[]), about: "There are no hashes yet." },
    Setting { name: "hash-max-listpack-value", get: |_| "64".into(), set: Set::NoEffect(&[]), about: "There are no hashes yet." },
    Setting { name: "io-threads", get: |shared| shared.gate.threads().to_string(), set: Set::Fixed(AT_THE_START), about: "Threads that serve connections." },
    Setting { name: "latency-monitor-threshold", get: |shared| shared.settings.latency_ms.load(Ordering::Relaxed).to_string(), set: Set::Number(0, i64::MAX, |shared, number| shared.settings.latency_ms.store(number.unsigned_abs(), Ordering::Relaxed)), about: "Milliseconds from which on a command is an event of `LATENCY`; 0 for none." },
    Setting { name: "lazyfree-lazy-eviction", get: |_| "no".into(), set: Set::NoEffect(YES_OR_NO), about: "Nothing is evicted." },
    Setting { name: "lazyfree-lazy-expire", get: |_| "yes".into(), set: Set::NoEffect(YES_OR_NO), about: "Space of expired keys always comes back later." },
    Setting { name: "lazyfree-lazy-server-del", get: |_| "yes".into(), set: Set::NoEffect(YES_OR_NO), about: "Space of deleted keys always comes back later." },
    Setting { name: "lazyfree-lazy-user-del", get: |_| "yes".into(), set: Set::NoEffect(YES_OR_NO), about: "Space of deleted keys always comes back later." },
    Setting { name: "lazyfree-lazy-user-flush", get: |_| "yes".into(), set: Set::NoEffect(YES_OR_NO), about: "Space of flushed databases always comes back later." },
    Setting { name: "loglevel", get: |_| "notice".into(), set: Set::NoEffect(&["debug", "verbose", "notice", "warning", "nothing"]), about: "There is no log file." },
    Setting { name: "maxclients", get: |shared| shared.settings.clients_max.load(Ordering::Relaxed).to_string(), set: Set::Number(1, CLIENTS_MAX, |shared, number| store_size(&shared.settings.clients_max, number)), about: "Clients at a time. Those that are connected stay." },
    Setting { name: "maxmemory", get: |_| "0".into(), set: Set::Fixed("data lies on disk, and what memory holds is chosen when the server starts, by --memory"), about: "What may be stored has no limit but the disk." },
    Setting { name: "maxmemory-policy", get: |_| "noeviction".into(), set: Set::NoEffect(&["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl", "allkeys-lru", "allkeys-lfu", "allkeys-random", "noeviction"]), about: "Nothing is evicted." },
    Setting { name: "maxmemory-samples", get: |_| "5".into(), set: Set::NoEffect(&[]), about: "Nothing is evicted." },
    Setting { name: "notify-keyspace-events", get: |_| String::new(), set: Set::Fixed("nobody can subscribe yet"), about: "There are no events yet." },
    Setting { name: "port", get: |shared| shared.addresses.first().map_or(0, std::net::SocketAddr::port).to_string(), set: Set::Fixed(AT_THE_START), about: "Where it listens." },
    Setting { name: "proto-max-bulk-len", get: |_| BULK_BYTES_MAX.to_string(), set: Set::Fixed("there is no other limit"), about: "Bytes of one argument." },
    Setting { name: "repl-diskless-load", get: |_| "disabled".into(), set: Set::Fixed("there are no replicas yet"), about: "There are no replicas yet." },
    Setting { name: "requirepass", get: |_| String::new(), set: Set::Password, about: "The password of the user `default`, which is never shown." },
    Setting { name: "save", get: |_| String::new(), set: Set::NoEffect(&[]), about: "Everything that is acknowledged is durable; there are no timed snapshots beside it." },
    Setting { name: "slowlog-log-slower-than", get: |shared| shared.settings.slowlog_us.load(Ordering::Relaxed).to_string(), set: Set::Number(-1, i64::MAX, |shared, number| shared.settings.slowlog_us.store(number, Ordering::Relaxed)), about: "Microseconds from which on `SLOWLOG` keeps a command; -1 for none." },
    Setting { name: "slowlog-max-len", get: |shared| shared.settings.slowlog_entries.load(Ordering::Relaxed).to_string(), set: Set::Number(0, SLOWLOG_MAX, set_slowlog_entries), about: "Commands that `SLOWLOG` keeps." },
    Setting { name: "stop-writes-on-bgsave-error", get: |_| "no".into(), set: Set::NoEffect(YES_OR_NO), about: "After a failed sync writes are always refused." },
    Setting { name: "tcp-keepalive", get: |shared| shared.settings.keepalive_s.load(Ordering::Relaxed).to_string(), set: Set::Number(0, 86_400, |shared, number| shared.settings.keepalive_s.store(number.unsigned_abs(), Ordering::Relaxed)), about: "Seconds of silence after which the operating system asks whether a client is there; 0 for never. For connections that come." },
    Setting { name: "timeout", get: |shared| shared.settings.idle_timeout_s.load(Ordering::Relaxed).to_string(), set: Set::Number(0, SECONDS_MAX, |shared, number| shared.settings.idle_timeout_s.store(number.unsigned_abs(), Ordering::Relaxed)), about: "Seconds of silence after which a client is closed; 0 for never." },
    Setting { name: "tls-auth-clients", get: |shared| tls(shared, |tls| tls.options.clients.word().into(), "no"), set: Set::Fixed(AT_THE_START), about: "Whether clients show certificates: `no`, `optional`, `yes`." },
    Setting { name: "tls-ca-cert-file", get: |shared| tls(shared, |tls| path(tls.options.clients.authority()), ""), set: Set::Reload(AT_THE_START), about: "Who signs the certificates of clients. Its own value is accepted: certificate, key and this are read again." },
    Setting { name: "tls-cert-file", get: |shared| tls(shared, |tls| path(Some(&tls.options.certificate)), ""), set: Set::Reload(AT_THE_START), about: "The server's certificate. Its own value is accepted: all three files are read again." },
    Setting { name: "tls-key-file", get: |shared| tls(shared, |tls| path(Some(&tls.options.key)), ""), set: Set::Reload(AT_THE_START), about: "Its key. Its own value is accepted: all three files are read again." },
    Setting { name: "tls-port", get: |shared| shared.tls_addresses.first().map_or(0, std::net::SocketAddr::port).to_string(), set: Set::Fixed(AT_THE_START), about: "Where it listens with TLS." },
    Setting { name: "tls-protocols", get: |shared| tls(shared, |_| "TLSv1.2 TLSv1.3".into(), ""), set: Set::Fixed("these two are always spoken, and no older one"), about: "Versions of TLS." },
    Setting { name: "unixsocket", get: unixsocket, set: Set::Fixed(AT_THE_START), about: "Where it listens in the file system." },
];

/// More clients than a process has files.
const CLIENTS_MAX: i64 = 1_000_000;

/// Of an idle client: a hundred years.
const SECONDS_MAX: i64 = 100 * 366 * 86_400;

#[expect(clippy::cast_possible_wrap, reason = "it is 100,000")]
const SLOWLOG_MAX: i64 = SLOWLOG_ENTRIES_MAX as i64;

fn appendfsync(shared: &Shared) -> String {
    match shared.db.durability() {
        durability if durability.is_synced() => "always",
        Durability::Periodic { .. } => "everysec",
        _ => "no",
    }
    .into()
}

fn bind(shared: &Shared) -> String {
    let hosts: Vec<String> = shared.addresses.iter().map(|address| address.ip().to_string()).collect();
    hosts.join(" ")
}

fn unixsocket(shared: &Shared) -> String {
    shared.options.unix_socket.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
}

fn tls(shared: &Shared, of: impl FnOnce(&Tls) -> String, none: &str) -> String {
    shared.tls.as_ref().map_or_else(|| none.into(), |tls| of(tls))
}

fn path(path: Option<&Path>) -> String {
    path.map(|path| path.display().to_string()).unwrap_or_default()
}

fn store_size(size: &std::sync::atomic::AtomicUsize, number: i64) {
    size.store(usize::try_from(number).unwrap_or(usize::MAX), Ordering::Relaxed);
}

fn set_slowlog_entries(shared: &Shared, number: i64) {
    store_size(&shared.settings.slowlog_entries, number);
    shared.slowlog.truncate(shared.settings.slowlog_entries.load(Ordering::Relaxed));
}

/// `CONFIG GET pattern [pattern ...]`
fn get(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let patterns: Vec<Vec<u8>> =
        arguments.iter().skip(2).map(|pattern| pattern.to_ascii_lowercase()).collect();
    let asked = |name: &str| patterns.iter().any(|pattern| glob::matches(pattern, name.as_bytes()));
    let settings = SETTINGS.iter().filter(|setting| asked(setting.name));
    let values = settings.map(|setting| (text(setting.name), text((setting.get)(&call.shared))));
    Ok(Reply::Map(values.collect()))
}

/// `CONFIG SET parameter value [parameter value ...]`
fn set(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let unknown = || Failure::new("ERR Unknown option or number of arguments for CONFIG SET");
    let (pairs, rest) = arguments.get(2..).unwrap_or_default().as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Failure::SYNTAX);
    }
    // First everything is looked at, then everything is changed.
    let (mut changes, mut password) = (Vec::new(), None);
    let mut seen: Vec<&str> = Vec::new();
    for [name, value] in pairs {
        let setting = SETTINGS.iter().find(|setting| is(name, setting.name)).ok_or_else(unknown)?;
        if seen.contains(&setting.name) {
            return Err(refusal(setting, "duplicate parameter"));
        }
        seen.push(setting.name);
        changes.extend(change(&call.shared, setting, value)?);
        if matches!(setting.set, Set::Password) {
            password = Some(value);
        }
    }
    // What can fail comes first, and what changes nothing when it fails before that.
    if changes.iter().any(|change| matches!(change, Change::Reload))
        && let Some(tls) = &call.shared.tls
    {
        tls.reload().map_err(|error| {
            Failure::owned(format!("ERR CONFIG SET failed - {error}; nothing was changed"))
        })?;
    }
    if let Some(password) = password {
        acl::require_password(call, password)?;
    }
    for change in changes {
        if let Change::Number(number, apply) = change {
            apply(&call.shared, number);
        }
    }
    Ok(Reply::OK)
}

/// What setting a value would change, or why it cannot be set.
fn change(shared: &Shared, setting: &Setting, value: &[u8]) -> Result<Option<Change>, Failure> {
    match setting.set {
        Set::Number(least, most, apply) => {
            let number = integer(value)
                .ok_or_else(|| refusal(setting, "argument couldn't be parsed into an integer"))?;
            if !(least..=most).contains(&number) {
                let bounds = format!("argument must be between {least} and {most} inclusive");
                return Err(refusal(setting, &bounds));
            }
            Ok(Some(Change::Number(number, apply)))
        }
        Set::Password => Ok(None),
        Set::NoEffect(words) if words.is_empty() || words.iter().any(|word| is(value, word)) => Ok(None),
        Set::NoEffect(YES_OR_NO) => Err(refusal(setting, "argument must be 'yes' or 'no'")),
        Set::NoEffect(words) => {
            Err(refusal(setting, &format!("argument(s) must be one of the following: {}", words.join(", "))))
        }
        Set::Fixed(_) if (setting.get)(shared).as_bytes() == value => Ok(None),
        Set::Reload(_) if (setting.get)(shared).as_bytes() == value => Ok(Some(Change::Reload)),
        Set::Fixed(reason) | Set::Reload(reason) => {
            Err(refusal(setting, &format!("it cannot be changed: {reason}")))
        }
    }
}

fn refusal(setting: &Setting, reason: &str) -> Failure {
    Failure::owned(format!(
        "ERR CONFIG SET failed (possibly related to argument '{}') - {reason}",
        setting.name
    ))
}

/// `CONFIG RESETSTAT`
fn resetstat(call: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    call.shared.reset_stats();
    Ok(Reply::OK)
}

/// `CONFIG REWRITE`
fn rewrite(_: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    Err(Failure::new("ERR The server is running without a config file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_in_order_and_say_what_they_are() {
        assert!(SETTINGS.is_sorted_by(|a, b| a.name < b.name));
        for setting in SETTINGS {
            assert!(setting.about.ends_with('.'), "{}", setting.name);
            assert!(setting.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'));
        }
    }
}
