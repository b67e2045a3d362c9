//! The listener in the file system: only its owner may connect, a file that a dead server left is replaced, and the file
//! goes when the server does.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use pugdb::{Error, Result};
use rustix::fs::Mode;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

use crate::limits::BACKLOG;

/// Only the owner reads and writes, which is what it takes to connect.
const OWNER_ONLY: u32 = 0o600;

/// A listener, and its file, which is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct UnixSocket {
    pub(crate) path: PathBuf,
    /// Taken when the server runs.
    pub(crate) listener: Option<UnixListener>,
    /// Device and number of the file: another one that has taken its place stays.
    id: (u64, u64),
}

impl UnixSocket {
    /// Listens at a path. Within a runtime.
    pub(crate) fn bind(path: &Path) -> Result<Self> {
        let failed = |error| Error::io(format_args!("listen on the socket {}", path.display()), error);
        remove_stale(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
        // On Linux the file has these rights from its first moment; elsewhere they come below.
        let _ = rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR);
        socket.bind(&SockAddr::unix(path).map_err(failed)?).map_err(failed)?;
        fs::set_permissions(path, fs::Permissions::from_mode(OWNER_ONLY)).map_err(failed)?;
        socket.listen(BACKLOG.cast_signed()).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        let listener = UnixListener::from_std(socket.into()).map_err(failed)?;
        let file = fs::symlink_metadata(path).map_err(failed)?;
        Ok(Self { path: path.to_owned(), listener: Some(listener), id: (file.dev(), file.ino()) })
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == self.id);
        if is_ours {
            // If it stays, the next server finds that nobody listens there.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes room at a path, if what is there is a socket on which nobody listens.
fn remove_stale(path: &Path) -> Result<()> {
    let Ok(file) = fs::symlink_metadata(path) else { return Ok(()) };
    if !file.file_type().is_socket() {
        return Err(Error::conflict(format!(
            "{} is there and is no socket; move it away or choose another path for the socket",
            path.display()
        )));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| {
                Error::io(
                    format_args!("remove the socket {} of a server that has ended", path.display()),
                    error,
                )
            })
        }
        // It answers, or nobody knows: both are reasons to leave it alone.
        _ => Err(Error::conflict(format!(
            "the socket {} is in use by another program; stop it or choose another path",
            path.display()
        ))),
    }
}
