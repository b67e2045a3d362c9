//! Which addresses may be listened on: those of this machine, and others only where whoever reaches them has to prove who he is and
//! nobody on the way reads along, or where somebody has said in words that he accepts the risk.

use std::net::SocketAddr;

use crate::outcome::Failure;

/// An address that is to be listened on, and what stands between it and the data.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exposure {
    pub(crate) address: SocketAddr,
    /// Nobody on the way reads along or changes anything.
    pub(crate) tls: bool,
    /// Whoever comes has to say who he is.
    pub(crate) users: bool,
    /// Whoever comes has to show a certificate.
    pub(crate) certificates: bool,
}

/// Risks that were accepted in words.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Accepted {
    /// `--allow-remote-without-encryption`
    pub(crate) no_encryption: bool,
    /// `--allow-remote-without-users`
    pub(crate) no_users: bool,
}

/// What is to be done about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Fine,
    /// Whoever listens on the way reads and changes everything, and where nobody has to say who he is, so does everybody.
    NoEncryption,
    /// Whoever reaches it reads and changes everything.
    NoUsers,
}

impl Exposure {
    pub(crate) fn verdict(self, accepted: Accepted) -> Verdict {
        if self.address.ip().to_canonical().is_loopback() {
            Verdict::Fine
        } else if !self.tls {
            if accepted.no_encryption { Verdict::Fine } else { Verdict::NoEncryption }
        } else if self.users || self.certificates || accepted.no_users {
            Verdict::Fine
        } else {
            Verdict::NoUsers
        }
    }

    /// The same as a sentence that says what is risked and what to do.
    pub(crate) fn check(self, accepted: Accepted) -> Result<(), Failure> {
        let address = self.address;
        match self.verdict(accepted) {
            Verdict::Fine => Ok(()),
            Verdict::NoEncryption if self.users => Err(Failure::usage(format!(
                "{address} can be reached from other machines without TLS: whoever listens on the way reads along, passwords too, and \
                 can change everything; use --tls-address in its place, or accept that risk with --allow-remote-without-encryption"
            ))),
            Verdict::NoEncryption => Err(Failure::usage(format!(
                "{address} can be reached from other machines, with no users and no TLS: whoever reaches it reads and changes \
                 everything, and whoever listens on the way reads along; listen on 127.0.0.1, use --tls-address in its place, or accept \
                 that risk with --allow-remote-without-encryption"
            ))),
            Verdict::NoUsers => Err(Failure::usage(format!(
                "{address} can be reached from other machines, and nobody has to say who he is: nobody on the way reads along, but \
                 whoever reaches it reads and changes everything; give the user default a password (`pugdb acl set`), ask clients for \
                 certificates with --tls-clients required (`pugdb tls client NAME` makes them), or accept that risk with --allow-remote-without-users"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Exit;

    const LOCAL: [&str; 4] = ["127.0.0.1:7379", "127.1.2.3:0", "[::1]:7379", "[::ffff:127.0.0.1]:1"];
    const REMOTE: [&str; 6] =
        ["0.0.0.0:7379", "[::]:7379", "192.168.1.1:7379", "[::ffff:10.0.0.1]:1", "8.8.8.8:1", "[fe80::1]:1"];

    fn exposure(address: &str, tls: bool, users: bool, certificates: bool) -> Exposure {
        Exposure { address: address.parse().unwrap(), tls, users, certificates }
    }

    #[test]
    fn addresses_of_this_machine_are_always_fine() {
        for address in LOCAL {
            for (tls, users) in [(false, false), (false, true), (true, false), (true, true)] {
                let exposure = exposure(address, tls, users, false);
                assert_eq!(exposure.verdict(Accepted::default()), Verdict::Fine, "{address}");
            }
        }
    }

    #[test]
    fn other_addresses_need_tls_and_users_or_words() {
        use Verdict::{Fine, NoEncryption, NoUsers};
        // TLS, users, certificates; nothing accepted, no encryption accepted, no users accepted, both.
        let table = [
            ((false, false, false), [NoEncryption, Fine, NoEncryption, Fine]),
            ((false, true, false), [NoEncryption, Fine, NoEncryption, Fine]),
            ((true, false, false), [NoUsers, NoUsers, Fine, Fine]),
            ((true, true, false), [Fine; 4]),
            ((true, false, true), [Fine; 4]),
            ((true, true, true), [Fine; 4]),
        ];
        for address in REMOTE {
            for ((tls, users, certificates), verdicts) in table {
                let accepted = [(false, false), (true, false), (false, true), (true, true)];
                for ((no_encryption, no_users), verdict) in accepted.into_iter().zip(verdicts) {
                    let found = exposure(address, tls, users, certificates)
                        .verdict(Accepted { no_encryption, no_users });
                    assert_eq!(found, verdict, "{address} {tls} {users} {no_encryption} {no_users}");
                }
            }
        }
    }

    #[test]
    fn a_refusal_says_what_is_risked_and_which_words_accept_it() {
        let refusal = |tls, users| {
            let failure = exposure("0.0.0.0:1", tls, users, false).check(Accepted::default()).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            failure.message
        };
        let plain = refusal(false, false);
        assert!(plain.contains("no users and no TLS") && plain.contains("listens on the way"), "{plain}");
        assert!(plain.ends_with("--allow-remote-without-encryption"), "{plain}");
        let with_users = refusal(false, true);
        assert!(with_users.contains("passwords too") && !with_users.contains("no users"), "{with_users}");
        assert!(with_users.ends_with("--allow-remote-without-encryption"), "{with_users}");
        let with_tls = refusal(true, false);
        assert!(with_tls.contains("nobody on the way") && with_tls.contains("--tls-clients"), "{with_tls}");
        assert!(with_tls.ends_with("--allow-remote-without-users"), "{with_tls}");
    }
}
