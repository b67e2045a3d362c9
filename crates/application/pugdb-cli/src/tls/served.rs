//! What `serve` shows to its clients, and when that is read or made again: at the start, daily, and when SIGHUP asks.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use pugdb_server::{CertificateInfo, ClientCertificates, TlsHandle, TlsOccasion, TlsOptions};
use serde_json::{Value, json};

use super::arguments::{Clients, ServeTls};
use super::names::names;
use super::store::{Made, Store};
use crate::outcome::Failure;

/// The certificates of a server.
pub(crate) struct Served {
    /// Those that it makes for itself, and what they are for.
    own: Option<(Store, BTreeSet<String>)>,
    pub(crate) options: TlsOptions,
    made: Option<Made>,
}

/// Something to be told: in words, and as an event.
pub(crate) type Told = (String, Value);

impl Served {
    /// Those that were asked for, made if they are one's own. Nothing without an address.
    pub(crate) fn prepare(
        arguments: &ServeTls,
        address: Option<SocketAddr>,
        http: Option<SocketAddr>,
    ) -> Result<Option<Self>, Failure> {
        if address.is_none() && http.is_none() {
            if arguments.is_asked_for() {
                return Err(Failure::usage(
                    "certificates are of use with --tls-address or --tls-http only; nothing would be encrypted",
                ));
            }
            return Ok(None);
        }
        let store = || Store::choose(arguments.tls_dir.as_deref());
        let (own, made) = if arguments.tls_cert.is_some() {
            (None, None)
        } else {
            let listened: Vec<SocketAddr> = address.into_iter().chain(http).collect();
            let (store, names) = (store()?, names(&listened, &arguments.tls_name)?);
            let made = store.ensure(&names)?;
            (Some((store, names)), made)
        };
        let (certificate, key) = match (&arguments.tls_cert, &own) {
            (Some(certificate), _) => {
                (certificate.clone(), arguments.tls_key.clone().unwrap_or_else(|| certificate.clone()))
            }
            (None, Some((store, _))) => (store.server(), store.server()),
            (None, None) => return Err(Failure::usage("TLS needs a certificate")),
        };
        let authority = || match &arguments.tls_client_ca {
            Some(path) => Ok(path.clone()),
            None => store().map(|store| store.ca()),
        };
        let clients = match arguments.clients() {
            Clients::No => ClientCertificates::NotAsked,
            Clients::Optional => ClientCertificates::Optional { authority: authority()? },
            Clients::Required => ClientCertificates::Required { authority: authority()? },
        };
        let addresses = address.into_iter().collect();
        let options = TlsOptions { addresses, http, clients, ..TlsOptions::new(certificate, key) };
        Ok(Some(Self { own, options, made }))
    }

    /// What is to be said when the server starts: which certificate it shows, and how clients come to trust it.
    pub(crate) fn introduce(&self, tls: &TlsHandle) -> Result<Vec<Told>, Failure> {
        let info = tls.certificate();
        let made = self.made.map(why);
        let trust = match &self.own {
            Some((store, _)) => {
                let (authority, _) = store.shown()?;
                Some((store.ca().display().to_string(), authority.fingerprint))
            }
            None => None,
        };
        let mut words = format!("tls: {}", describe(&info));
        if let Some(made) = made {
            words = format!("{words}, {made}");
        }
        if let Some((ca, fingerprint)) = &trust {
            words = format!(
                "{words}; clients trust it with --tls-ca {ca}, whose SHA-256 is {}",
                fingerprint.with_colons()
            );
        }
        let event = json!({
            "event": "tls", "names": info.names, "expires_at_ms": info.not_after.0,
            "fingerprint": info.fingerprint.to_string(), "made": made,
            "ca": trust.as_ref().map(|(ca, _)| ca),
            "ca_fingerprint": trust.as_ref().map(|(_, fingerprint)| fingerprint.to_string()),
        });
        Ok([(words, event)].into_iter().chain(warning(tls)).collect())
    }

    /// Does what an occasion asks for; what is to be said of it.
    pub(crate) fn attend(&self, tls: &TlsHandle, occasion: TlsOccasion) -> Vec<Told> {
        let made = match &self.own {
            Some((store, names)) => store.ensure(names),
            None => Ok(None),
        };
        let reloaded = match (made, occasion) {
            (Err(failure), _) => Err(failure.message),
            // The one that is served lasts.
            (Ok(None), TlsOccasion::Daily) => return warning(tls).into_iter().collect(),
            (Ok(made), _) => {
                tls.reload().map(|info| (info, made.map(why))).map_err(|error| error.to_string())
            }
        };
        let told = match reloaded {
            Ok((info, made)) => {
                let made_words = made.map(|made| format!(", {made}")).unwrap_or_default();
                (
                    format!("tls: new connections meet {}{made_words}", describe(&info)),
                    json!({
                        "event": "tls_reloaded", "expires_at_ms": info.not_after.0,
                        "fingerprint": info.fingerprint.to_string(), "made": made,
                    }),
                )
            }
            Err(error) => (
                format!("tls: the files were not taken, and what was served before is served on: {error}"),
                json!({ "event": "tls_not_reloaded", "error": error }),
            ),
        };
        [told].into_iter().chain(warning(tls)).collect()
    }
}

fn warning(tls: &TlsHandle) -> Option<Told> {
    let warning = tls.expiry_warning()?;
    Some((
        format!("tls: warning: {warning}"),
        json!({ "event": "tls_expires", "warning": warning, "expires_at_ms": tls.certificate().not_after.0 }),
    ))
}

fn describe(info: &CertificateInfo) -> String {
    let names = if info.names.is_empty() { "nobody by name".to_owned() } else { info.names.join(", ") };
    format!("a certificate for {names}, valid until {}", info.not_after.utc())
}

fn why(made: Made) -> &'static str {
    match made {
        Made::First => "made now",
        Made::Expiring => "renewed because the last one was about to expire",
        Made::Names => "renewed because the last one was not for all names",
        Made::Authority => "renewed because the last one was of another authority",
    }
}
