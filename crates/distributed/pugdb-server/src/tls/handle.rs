//! What a program asks of a server's TLS while it runs, and when there is a reason to.

use std::sync::Arc;

use pugdb::{Result, Timestamp};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::certificate::CertificateInfo;
use super::config::Tls;
use crate::limits::{TLS_CHECK_PAUSE, TLS_EXPIRY_WARNING_MS};

/// The TLS of a [`Server`](crate::Server), for whoever runs it.
///
/// ```
/// use pugdb_server::{Server, ServerOptions, TlsOptions};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("server.pem");
/// # let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
/// # std::fs::write(&path, pair.cert.pem() + &pair.signing_key.serialize_pem())?;
/// # use std::os::unix::fs::PermissionsExt as _;
/// # std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
/// let any_port = "127.0.0.1:0".parse()?;
/// let tls = TlsOptions { addresses: vec![any_port], ..TlsOptions::new(&path, &path) };
/// let options = ServerOptions { addresses: vec![any_port], tls: Some(tls), ..ServerOptions::default() };
/// let server = Server::bind(options, pugdb::Database::in_memory()?)?;
/// let tls = server.tls().unwrap();
/// assert_eq!(tls.certificate().names, ["localhost"]);
///
/// std::fs::write(&path, "nonsense")?;
/// assert!(tls.reload().is_err());
/// assert_eq!(tls.certificate().names, ["localhost"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct TlsHandle(pub(crate) Arc<Tls>);

impl TlsHandle {
    /// Reads certificate, key and the authorities of clients again, for connections that come. If anything is wrong with one of
    /// them, all stay as they were.
    ///
    /// # Errors
    /// What is wrong.
    pub fn reload(&self) -> Result<CertificateInfo> {
        self.0.reload()
    }

    /// The server's certificate.
    pub fn certificate(&self) -> CertificateInfo {
        self.0.certificate()
    }

    /// What has to be said of the certificate's end, from 30 days before it on.
    pub fn expiry_warning(&self) -> Option<String> {
        warning(self.certificate().not_after, self.0.now())
    }
}

fn warning(end: Timestamp, now: Timestamp) -> Option<String> {
    if now > end {
        return Some(format!(
            "the server's certificate is valid no more, since {}: clients refuse it",
            end.utc()
        ));
    }
    let left = end.0 - now.0;
    let days = left / 86_400_000;
    (left < TLS_EXPIRY_WARNING_MS)
        .then(|| format!("the server's certificate is valid for {days} more days, until {}", end.utc()))
}

/// Why a program should look after the certificates of its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsOccasion {
    /// SIGHUP has come: read them again.
    Asked,
    /// A day has passed: they may be about to expire.
    Daily,
}

/// Tells when to look after the certificates of a server.
pub struct TlsOccasions {
    hangup: Option<Signal>,
    days: Interval,
}

impl TlsOccasions {
    /// From now on SIGHUP does not end the process. Within the future that is given to [`Server::run`](crate::Server::run).
    pub fn install() -> Self {
        let mut days = interval(TLS_CHECK_PAUSE);
        days.set_missed_tick_behavior(MissedTickBehavior::Delay);
        days.reset();
        Self { hangup: signal(SignalKind::hangup()).ok(), days }
    }

    /// The next occasion.
    pub async fn next(&mut self) -> TlsOccasion {
        let Self { hangup, days } = self;
        std::future::poll_fn(|context| {
            if let Some(hangup) = hangup
                && hangup.poll_recv(context).is_ready()
            {
                return std::task::Poll::Ready(TlsOccasion::Asked);
            }
            days.poll_tick(context).map(|_| TlsOccasion::Daily)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_told_of_thirty_days_before() {
        const DAY: u64 = 86_400_000;
        let now = Timestamp(1_000 * DAY);
        let at = |end: u64| warning(Timestamp(end), now);
        assert_eq!((at(1_030 * DAY), at(1_030 * DAY + 1)), (None, None));
        assert!(at(1_030 * DAY - 1).unwrap().contains("valid for 29 more days, until 1972-10-26"));
        assert!(at(1_000 * DAY).unwrap().contains("valid for 0 more days"));
        assert!(at(1_000 * DAY - 1).unwrap().contains("valid no more"));
    }
}
