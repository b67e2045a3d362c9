//! From a socket that was accepted to one that is private, or to its end. Handshakes are bounded in time, in number and in memory:
//! when there are too many at once, the one that has taken longest ends.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use rustls::ProtocolVersion;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::certificate::CertificateInfo;
use super::{Tls, TlsPeer};
use crate::budget::Reservation;
use crate::limits::{
    LINGER, LINGER_BYTES, TLS_CONNECTION_BYTES, TLS_HANDSHAKE_BYTES, TLS_HANDSHAKES_MAX, TLS_OUTPUT_BYTES,
};
use crate::shared::Shared;

/// The first byte of whoever speaks TLS: a record of a handshake (RFC 8446, 5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// What that record goes on with: 3, and a minor version.
const MAJOR_VERSION: u8 = 3;

/// A record that says `handshake_failure`, fatal (RFC 8446, 6): programs end with a word about TLS, and do not wait.
const ALERT: [u8; 7] = [21, 3, 1, 0, 2, 2, 40];

/// Whether bytes that came first are those of a client that speaks TLS. No command begins so.
pub(crate) fn looks_like_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [HANDSHAKE_RECORD, MAJOR_VERSION, ..])
}

/// What a client that speaks TLS is answered where none is spoken.
pub(crate) fn tls_alert() -> &'static [u8] {
    &ALERT
}

/// The handshakes that are under way.
#[derive(Debug, Default)]
pub(crate) struct Handshakes {
    under_way: Mutex<UnderWay>,
}

#[derive(Debug, Default)]
struct UnderWay {
    last: u64,
    /// From the oldest to the newest. Who is dropped ends.
    by_age: BTreeMap<u64, oneshot::Sender<()>>,
}

/// A handshake's place among those under way, given up when it is dropped.
pub(crate) struct Place {
    handshakes: Arc<Handshakes>,
    number: u64,
    /// It is to end, for others want its place.
    pub(crate) evicted: oneshot::Receiver<()>,
}

impl Handshakes {
    /// Begins one. True when an older one had to end for it: whoever has had longest has had his chance, and one who comes
    /// now is not kept out by those who say nothing.
    pub(crate) fn begin(self: &Arc<Self>) -> (Place, bool) {
        let mut under_way = self.under_way.lock();
        let is_full = under_way.by_age.len() >= TLS_HANDSHAKES_MAX;
        if is_full {
            under_way.by_age.pop_first();
        }
        under_way.last += 1;
        let (number, (keep, evicted)) = (under_way.last, oneshot::channel());
        under_way.by_age.insert(number, keep);
        drop(under_way);
        (Place { handshakes: Arc::clone(self), number, evicted }, is_full)
    }

    pub(crate) fn count(&self) -> usize {
        self.under_way.lock().by_age.len()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.handshakes.under_way.lock().by_age.remove(&self.number);
    }
}

/// A connection that is private.
pub(crate) struct Secured {
    stream: TlsStream<TcpStream>,
    /// For what TLS holds of it.
    _reserved: Reservation,
}

/// Makes a connection private, in a bounded time. Who speaks something else is told `hint`.
pub(crate) async fn serve_hello(shared: &Shared, stream: TcpStream, hint: &[u8]) -> Option<Secured> {
    let tls = shared.tls.as_ref()?;
    let mut reserved = shared.budget.reservation();
    if reserved.set(TLS_HANDSHAKE_BYTES).is_err() {
        shared.stats.out_of_buffers.add(1);
        return None;
    }
    match timeout(tls.options.handshake_wait, shake_hands(tls, stream, hint)).await {
        Ok(Ok(Some(stream))) => {
            shared.stats.tls_handshakes.add(1);
            // To less it always goes.
            let _ = reserved.set(TLS_CONNECTION_BYTES);
            Some(Secured { stream, _reserved: reserved })
        }
        // A probe that only looks whether somebody listens.
        Ok(Ok(None)) => None,
        Ok(Err(_)) | Err(_) => {
            shared.stats.tls_failures.add(1);
            None
        }
    }
}

/// `None` when the client has gone without a byte.
async fn shake_hands(tls: &Tls, stream: TcpStream, hint: &[u8]) -> io::Result<Option<TlsStream<TcpStream>>> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Ok(None);
    }
    if first != [HANDSHAKE_RECORD] {
        part(stream, hint).await;
        return Err(io::ErrorKind::InvalidData.into());
    }
    let accept = TlsAcceptor::from(tls.config());
    let accept = accept.accept_with(stream, |session| session.set_buffer_limit(Some(TLS_OUTPUT_BYTES)));
    match accept.into_fallible().await {
        Ok(stream) => Ok(Some(stream)),
        Err((error, stream)) => {
            // The alert is sent already.
            part(stream, &[]).await;
            Err(error)
        }
    }
}

/// Says a last word and reads on for a moment, or a reset could overtake it.
async fn part(mut stream: TcpStream, last: &[u8]) {
    let _ = timeout(LINGER, async {
        stream.write_all(last).await?;
        stream.shutdown().await?;
        let mut rest = stream.take(LINGER_BYTES as u64);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    })
    .await;
}

impl Secured {
    #[cfg(test)]
    pub(crate) fn of(stream: TlsStream<TcpStream>, reserved: Reservation) -> Self {
        Self { stream, _reserved: reserved }
    }

    /// What is known of the other side.
    pub(crate) fn peer(&self) -> TlsPeer {
        let session = self.stream.get_ref().1;
        let version =
            if session.protocol_version() == Some(ProtocolVersion::TLSv1_2) { "1.2" } else { "1.3" };
        let own = session.peer_certificates().and_then(|chain| chain.first());
        // It was checked, so it can be read; a client without names would have no rights, and no more than that.
        let certificate = own.and_then(|certificate| CertificateInfo::read(certificate).ok());
        TlsPeer { version, certificate }
    }

    pub(crate) fn socket(&self) -> SockRef<'_> {
        SockRef::from(self.stream.get_ref().0)
    }

    /// Takes what the operating system has received and does not wait: an error of the kind `WouldBlock` when that is nothing.
    pub(crate) fn read_received(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let (stream, session) = self.stream.get_mut();
        loop {
            match session.reader().read(space) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
            if session.read_tls(&mut &*SockRef::from(&*stream))? == 0 {
                return Ok(0);
            }
            session
                .process_new_packets()
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
    }

    /// Tells a client that it is one too many.
    pub(crate) async fn refuse(mut self, refusal: &[u8]) {
        let _ = timeout(LINGER, async {
            self.stream.write_all(refusal).await?;
            self.stream.shutdown().await
        })
        .await;
    }
}

impl AsyncRead for Secured {
    /// Several records at once where they are there, so that the commands of a pipeline share a sync.
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = &mut self.get_mut().stream;
        let before = buffer.filled().len();
        while buffer.remaining() > 0 {
            let filled = buffer.filled().len();
            match Pin::new(&mut *stream).poll_read(context, buffer) {
                Poll::Ready(Ok(())) if buffer.filled().len() > filled => {}
                // What came before the end, or before an error, is read first; either comes again.
                _ if filled > before => break,
                ended => return ended,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Secured {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_handshake_too_many_ends_the_oldest() {
        let handshakes = Arc::new(Handshakes::default());
        let mut places: Vec<Place> = (0..TLS_HANDSHAKES_MAX)
            .map(|_| {
                let (place, evicts) = handshakes.begin();
                assert!(!evicts);
                place
            })
            .collect();
        let is_evicted =
            |place: &mut Place| place.evicted.try_recv() == Err(oneshot::error::TryRecvError::Closed);
        let (_newest, evicts) = handshakes.begin();
        assert!(evicts && is_evicted(&mut places[0]) && !is_evicted(&mut places[1]));
        assert_eq!(handshakes.count(), TLS_HANDSHAKES_MAX);
        places.truncate(10);
        assert_eq!(handshakes.count(), 10);
        let (_another, evicts) = handshakes.begin();
        assert!(!evicts && !is_evicted(&mut places[1]));
    }

    #[test]
    fn commands_do_not_look_like_tls() {
        assert!(looks_like_tls(&[22, 3, 1, 0]) && !looks_like_tls(&[22]) && !looks_like_tls(b"*1\r\n"));
    }
}
