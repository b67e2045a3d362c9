//! What a connection runs over: TCP, TLS over TCP, or a socket in the file system.

use std::io::{self, Read as _};
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::tls::Secured;

/// A TLS record that only says goodbye has no more, in any version and cipher.
const GOODBYE_BYTES_MAX: usize = 31;

pub(crate) enum Stream {
    Tcp(TcpStream),
    Tls(Box<Secured>),
    Unix(UnixStream),
}

impl Stream {
    /// The socket itself.
    pub(crate) fn socket(&self) -> SockRef<'_> {
        match self {
            Self::Tcp(stream) => SockRef::from(stream),
            Self::Tls(stream) => stream.socket(),
            Self::Unix(stream) => SockRef::from(stream),
        }
    }

    /// Whether the other side is known to have gone, as far as one can tell without taking bytes.
    pub(crate) fn has_ended(&self) -> bool {
        let mut space = [std::mem::MaybeUninit::uninit(); GOODBYE_BYTES_MAX + 1];
        match self.socket().peek(&mut space) {
            Ok(0) => true,
            Ok(1..=GOODBYE_BYTES_MAX) if self.is_secured() => self.has_hung_up(),
            Ok(_) => false,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    pub(crate) fn is_secured(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Whether the other side sends nothing any more, whatever is unread: over TLS its goodbye is.
    #[cfg(target_os = "linux")]
    fn has_hung_up(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let (socket, flags) = (self.socket(), PollFlags::RDHUP);
        poll(&mut [PollFd::new(&*socket, flags)], Some(&Timespec::default())).is_ok_and(|count| count > 0)
    }

    #[cfg(not(target_os = "linux"))]
    fn has_hung_up(&self) -> bool {
        false
    }

    /// Takes what the operating system has received and does not wait.
    pub(crate) fn read_received(&mut self, space: &mut [u8]) -> io::Result<usize> {
        match self {
            // Not through the runtime, which remembers that nothing was there a while ago.
            Self::Tcp(_) | Self::Unix(_) => (&*self.socket()).read(space),
            Self::Tls(stream) => stream.read_received(space),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
            Self::Unix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
