//! The address of a server: `redis://[user[:password]@]host[:port][/db]`, or `rediss://` with TLS.

use std::fmt;
use std::str::FromStr;

use zeroize::Zeroizing;

/// PugDB's port, and the one for TLS.
const PORT_DEFAULT: u16 = 7379;
const TLS_PORT_DEFAULT: u16 = 7380;

/// Databases that a server has: `db0` to `db15`.
const DATABASES: u8 = 16;

/// Where a server listens, and which of its databases is meant. It is printed without user and password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ServerUrl {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Zeroizing<String>>,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Over TLS.
    pub(crate) tls: bool,
    /// The number in the path, if there is one.
    pub(crate) database: Option<u8>,
}

impl ServerUrl {
    /// The number of the database that path and `--keyspace` name together.
    pub(crate) fn database_with(&self, keyspace: Option<&str>) -> Result<u8, String> {
        let named = match keyspace {
            Some(name) => Some(database_of(name).ok_or_else(|| {
                format!("over --url only the keyspaces db0 to db{} can be reached", DATABASES - 1)
            })?),
            None => None,
        };
        match (self.database, named) {
            (Some(path), Some(named)) if path != named => {
                Err("--keyspace and the path of --url name different databases; give one of them".to_owned())
            }
            (path, named) => Ok(path.or(named).unwrap_or(0)),
        }
    }
}

impl FromStr for ServerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (rest, tls) = match (text.strip_prefix("redis://"), text.strip_prefix("rediss://")) {
            (Some(rest), _) => (rest, false),
            (None, Some(rest)) => (rest, true),
            (None, None) => {
                return Err(
                    "a server's address looks like redis://127.0.0.1:7379 or, with TLS, rediss://pug.example:7380/1".to_owned()
                );
            }
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, authority) = match authority.rsplit_once('@') {
            Some((credentials, authority)) => (Some(credentials), authority),
            None => (None, authority),
        };
        let (user, password) = credentials.map_or(Ok((None, None)), parse_credentials)?;
        let (host, port) = split_port(authority, if tls { TLS_PORT_DEFAULT } else { PORT_DEFAULT })?;
        if host.is_empty() {
            return Err("the host is missing: redis://127.0.0.1:7379".to_owned());
        }
        let database = match path {
            "" => None,
            number => Some(parse_database(number).ok_or_else(|| {
                format!("the path of the address is the number of a database, 0 to {}", DATABASES - 1)
            })?),
        };
        Ok(Self { user, password, host: host.to_owned(), port, tls, database })
    }
}

type UserAndPassword = (Option<String>, Option<Zeroizing<String>>);

/// `user`, `user:password`, `:password`. No error repeats any of it.
fn parse_credentials(text: &str) -> Result<UserAndPassword, String> {
    let (user, password) =
        text.split_once(':').map_or((text, None), |(user, password)| (user, Some(password)));
    let decoded = |text: &str| {
        percent_decoded(text).ok_or_else(|| {
            "user and password in the address are UTF-8, and a % in them is written %25".to_owned()
        })
    };
    let user = if user.is_empty() { None } else { Some(decoded(user)?) };
    Ok((user, password.map(decoded).transpose()?.map(Zeroizing::new)))
}

fn percent_decoded(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), text.bytes());
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let decoded = match byte {
            b'%' => u8::try_from(digit(rest.next())? * 16 + digit(rest.next())?).ok()?,
            byte => byte,
        };
        bytes.push(decoded);
    }
    String::from_utf8(bytes).ok()
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn split_port(authority: &str, default: u16) -> Result<(&str, u16), String> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or("the ] of the IPv6 address is missing")?;
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return Err("after ] comes :port or nothing".to_owned()),
            }
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().map_err(|_| "the port is a number from 0 to 65535".to_owned())?,
        None => default,
    };
    Ok((host, port))
}

fn database_of(keyspace: &str) -> Option<u8> {
    keyspace.strip_prefix("db").and_then(parse_database)
}

/// Exactly as it is printed: `01` and `+1` are other names.
fn parse_database(number: &str) -> Option<u8> {
    let parsed: u8 = number.parse().ok()?;
    (parsed < DATABASES && parsed.to_string() == number).then_some(parsed)
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, .. } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(host: &str, port: u16, database: Option<u8>) -> ServerUrl {
        ServerUrl { user: None, password: None, host: host.to_owned(), port, tls: false, database }
    }

    #[test]
    fn addresses() {
        assert_eq!("redis://127.0.0.1:7379".parse(), Ok(url("127.0.0.1", 7379, None)));
        assert_eq!("redis://localhost".parse(), Ok(url("localhost", 7379, None)));
        assert_eq!("redis://localhost/".parse(), Ok(url("localhost", 7379, None)));
        assert_eq!("redis://localhost:1/15".parse(), Ok(url("localhost", 1, Some(15))));
        assert_eq!("redis://[::1]:7379/0".parse(), Ok(url("::1", 7379, Some(0))));
        assert_eq!("redis://[::1]".parse(), Ok(url("::1", 7379, None)));
        assert_eq!(url("::1", 1, None).to_string(), "[::1]:1");
        let tls = |host, port, database| ServerUrl { tls: true, ..url(host, port, database) };
        assert_eq!("rediss://pug.example".parse(), Ok(tls("pug.example", 7380, None)));
        assert_eq!("rediss://[::1]:1/2".parse(), Ok(tls("::1", 1, Some(2))));
    }

    #[test]
    fn what_is_no_address_is_refused_and_a_password_is_not_repeated() {
        for text in [
            "",
            "127.0.0.1:7379",
            "http://localhost",
            "rediss://",
            "redis+tls://localhost",
            "redis://",
            "redis://:7379",
            "redis://localhost:x",
            "redis://localhost:70000",
            "redis://localhost/16",
            "redis://localhost/-1",
            "redis://localhost/01",
            "redis://localhost/0/1",
            "redis://[::1",
            "redis://[::1]7379",
            "redis://ada:secret%@localhost",
            "redis://ada:secret%zz@localhost",
            "redis://ada:secret%ff@localhost",
            "redis://ada:secret@",
            "redis://ada:secret@localhost:secret",
        ] {
            let error = text.parse::<ServerUrl>().unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn an_address_can_say_who_one_is_and_does_not_print_it() {
        let parsed = |text: &str| text.parse::<ServerUrl>().unwrap();
        let full = parsed("redis://ada:s%40cr%3At@localhost:1/3");
        assert_eq!(
            (full.user.as_deref(), full.password.as_deref().map(String::as_str)),
            (Some("ada"), Some("s@cr:t"))
        );
        assert_eq!((full.host.as_str(), full.port, full.database), ("localhost", 1, Some(3)));
        assert_eq!(format!("{full} {full:?}"), "localhost:1 localhost:1");
        let alone = parsed("redis://:pass:word@[::1]");
        assert_eq!((alone.user, alone.password.unwrap().as_str()), (None, "pass:word"));
        let named = parsed("redis://ada@localhost");
        assert_eq!((named.user.as_deref(), named.password), (Some("ada"), None));
    }

    #[test]
    fn path_and_keyspace_have_to_agree() {
        let plain = url("h", 1, None);
        assert_eq!(plain.database_with(None), Ok(0));
        assert_eq!(plain.database_with(Some("db3")), Ok(3));
        assert_eq!(url("h", 1, Some(3)).database_with(Some("db3")), Ok(3));
        assert!(url("h", 1, Some(3)).database_with(Some("db4")).unwrap_err().contains("different"));
        for name in ["users", "db16", "db01", "db", "3"] {
            assert!(plain.database_with(Some(name)).unwrap_err().contains("db0 to db15"), "{name}");
        }
    }
}
