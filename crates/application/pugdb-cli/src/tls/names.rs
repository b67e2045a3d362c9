//! What the certificate of a server is for: this machine's names and addresses.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use crate::outcome::Failure;

/// As many as `CertificateInfo` tells of a certificate.
const NAMES_MAX: usize = 16;

/// The names for a server that listens there: `localhost`, the machine's name, its addresses, and those that were asked for.
pub(super) fn names(addresses: &[SocketAddr], more: &[String]) -> Result<BTreeSet<String>, Failure> {
    let mut names: BTreeSet<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    let host = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    if is_name(&host) {
        names.insert(host);
    }
    for address in addresses {
        names.extend(own_address(address.ip()).map(|ip| ip.to_string()));
    }
    for name in more {
        let parsed = name.parse::<IpAddr>().map(|ip| ip.to_string());
        let name = parsed.unwrap_or_else(|_| name.to_ascii_lowercase());
        if name.parse::<IpAddr>().is_err() && !is_name(name.strip_prefix("*.").unwrap_or(&name)) {
            return Err(Failure::usage("--tls-name is the name of a host or an address"));
        }
        names.insert(name);
    }
    if names.len() > NAMES_MAX {
        return Err(Failure::usage(format!(
            "a certificate is for {NAMES_MAX} names at most, with this machine's own"
        )));
    }
    Ok(names)
}

/// Letters, digits and hyphens between points (RFC 1123).
fn is_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

/// An address as others use it: for all of them, that of the way out, if there is one. Nothing is sent to find it.
fn own_address(ip: IpAddr) -> Option<IpAddr> {
    let ip = ip.to_canonical();
    if !ip.is_unspecified() {
        return Some(ip);
    }
    // Addresses that are for documents (RFC 5737, RFC 3849).
    let (any, elsewhere) =
        if ip.is_ipv4() { ("0.0.0.0:0", "192.0.2.1:9") } else { ("[::]:0", "[2001:db8::1]:9") };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(elsewhere).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_for_this_machine_and_what_was_asked_for() {
        let addresses = ["10.1.2.3:1".parse().unwrap(), "[::ffff:10.1.2.4]:1".parse().unwrap()];
        let more = ["Pug.Example".to_owned(), "*.pugs.example".to_owned(), "2001:DB8::5".to_owned()];
        let names = names(&addresses, &more).unwrap();
        for name in [
            "localhost",
            "127.0.0.1",
            "::1",
            "10.1.2.3",
            "10.1.2.4",
            "pug.example",
            "*.pugs.example",
            "2001:db8::5",
        ] {
            assert!(names.contains(name), "{name} in {names:?}");
        }
    }

    #[test]
    fn names_are_few() {
        let more = |count: usize| (0..count).map(|number| format!("pug{number}")).collect::<Vec<_>>();
        names(&[], &more(10)).unwrap();
        assert!(names(&[], &more(20)).unwrap_err().message.contains("16 names"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for name in ["", "a b", "-a", "a..b", "*", "a.*.b", "a/b", &"a".repeat(64), &"a.".repeat(130)] {
            assert!(names(&[], &[name.to_owned()]).is_err(), "{name}");
        }
    }
}
