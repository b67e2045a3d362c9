//! Commands about the connection: its protocol, its database, its end.

use bytes::Bytes;
use pugdb::rights::DEFAULT_USER;
use pugdb_wire::resp::{Protocol, Reply};

use super::{client, text};
use crate::arguments::{at, integer, is};
use crate::call::Call;
use crate::failure::Failure;
use crate::limits::DATABASES;
use crate::login::log_in;

/// The Redis whose commands and errors these are.
pub(super) const REDIS_VERSION: &str = "7.2.0";

const NO_PASSWORD: Failure = Failure::new(
    "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
     configuration is correct?",
);

const NO_HELLO: Failure = Failure::new(
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> \
     option can be used to authenticate the client and select the RESP protocol version at the same time",
);

/// `PING [message]`
pub(super) fn ping(_: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    match arguments {
        [_] => Ok(Reply::simple("PONG")),
        [_, message] => Ok(Reply::Bulk(message.clone())),
        _ => Err(Failure::arguments("ping")),
    }
}

/// `ECHO message`
pub(super) fn echo(_: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    Ok(Reply::Bulk(at(arguments, 1)?.clone()))
}

/// `AUTH [username] password`
pub(super) fn auth(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let (name, password) = match arguments {
        [_, password] => {
            // Whoever believes in a password that nobody asks for is told.
            if call.shared.rights.current().user(DEFAULT_USER).is_some_and(|user| user.needs_no_password()) {
                return Err(NO_PASSWORD);
            }
            (DEFAULT_USER.as_bytes(), password)
        }
        [_, name, password] => (name.as_ref(), password),
        _ => return Err(Failure::SYNTAX),
    };
    log_in(call, name, password, "AUTH")?;
    Ok(Reply::OK)
}

/// `HELLO [protover [AUTH username password] [SETNAME name]]`
pub(super) fn hello(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let mut protocol = call.protocol;
    let (mut name, mut credentials) = (None, None);
    if let Some(version) = arguments.get(1) {
        protocol = match integer(version) {
            Some(2) => Protocol::Resp2,
            Some(3) => Protocol::Resp3,
            Some(_) => return Err(Failure::new("NOPROTO unsupported protocol version")),
            None => return Err(Failure::new("ERR Protocol version is not an integer or out of range")),
        };
        let mut rest = arguments.get(2..).unwrap_or_default();
        while let [option, after @ ..] = rest {
            rest = match after {
                [user, password, after @ ..] if is(option, "auth") => {
                    credentials = Some((user, password));
                    after
                }
                [given, after @ ..] if is(option, "setname") => {
                    name = Some(client::checked_name(given)?);
                    after
                }
                _ => return Err(Failure::new("ERR Syntax error in HELLO option")),
            };
        }
    }
    // Only a HELLO without any error changes anything.
    match credentials {
        Some((user, password)) => log_in(call, user, password, "HELLO")?,
        None if !call.identity.is_known() => return Err(NO_HELLO),
        None => {}
    }
    call.set_protocol(protocol);
    if let Some(name) = name {
        call.client.change(|state| state.name = name);
    }
    let version = if protocol == Protocol::Resp3 { 3 } else { 2 };
    Ok(Reply::Map(vec![
        // Client libraries look for this name before they use what they know of Redis.
        (text("server"), text("redis")),
        (text("version"), text(REDIS_VERSION)),
        (text("proto"), Reply::Integer(version)),
        (text("id"), Reply::Integer(i64::try_from(call.client.id).unwrap_or(i64::MAX))),
        (text("mode"), text("standalone")),
        (text("role"), text("master")),
        (text("modules"), Reply::Array(Vec::new())),
    ]))
}

/// `SELECT index`
pub(super) fn select(call: &mut Call<'_>, arguments: &[Bytes]) -> Result<Reply, Failure> {
    let database = super::need_integer_in(arguments.get(1), DATABASES)?;
    call.select(database);
    Ok(Reply::OK)
}

/// `QUIT`
pub(super) fn quit(call: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    call.closing = true;
    Ok(Reply::OK)
}

/// `RESET`
pub(super) fn reset(call: &mut Call<'_>, _: &[Bytes]) -> Result<Reply, Failure> {
    call.reset();
    Ok(Reply::simple("RESET"))
}
