//! The one error type: few kinds, each telling the caller what to do next.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::sync::Arc;

/// The result of anything that can fail in PugDB.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller can do about an error. A new kind needs a caller who would act differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request breaks a rule or a limit: change the request.
    Invalid,
    /// The named thing does not exist: create it or name another.
    NotFound,
    /// Somebody else was faster or holds it: retry, or choose another name.
    Conflict,
    /// It cannot be done now: the message says what has to happen first (space, a reopen, time).
    Unavailable,
    /// The operating system or a rule forbids it: change the rights.
    Denied,
    /// Stored bytes are not what was written: run `pugdb verify`, restore from a backup.
    Corrupt,
    /// A newer version of PugDB wrote it, and this one does not know what it means: open it with that one. Nothing is damaged, and nothing was
    /// changed.
    Unsupported,
    /// The key that sealed it was destroyed: nothing brings it back.
    Erased,
    /// The database was closed: open it again.
    Closed,
    /// A bug in PugDB: please report it.
    Internal,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invalid => "invalid",
            Self::NotFound => "not found",
            Self::Conflict => "conflict",
            Self::Unavailable => "unavailable",
            Self::Denied => "denied",
            Self::Corrupt => "corrupt",
            Self::Unsupported => "unsupported",
            Self::Erased => "erased",
            Self::Closed => "closed",
            Self::Internal => "internal",
        })
    }
}

/// An error: a [kind](ErrorKind) to act on and one sentence to read. It never holds a key or a value.
///
/// It is cheap to clone, because one failed sync answers many waiting commits.
///
/// ```
/// use pugdb_core::{Error, ErrorKind};
///
/// let error = Error::invalid("the key has 70000 bytes; at most 65535 are allowed");
/// assert_eq!(error.kind(), ErrorKind::Invalid);
/// assert_eq!(error.to_string(), "the key has 70000 bytes; at most 65535 are allowed");
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    /// What to do, behind the message; empty when the message says it.
    advice: &'static str,
    disk_full: bool,
    retry: bool,
    over_quota: bool,
    source: Option<io::Error>,
}

impl Inner {
    fn new(kind: ErrorKind, message: Cow<'static, str>) -> Self {
        Self { kind, message, advice: "", disk_full: false, retry: false, over_quota: false, source: None }
    }
}

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident => $kind:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name(message: impl Into<Cow<'static, str>>) -> Self {
            Self::new(ErrorKind::$kind, message.into())
        }
    )*};
}

impl Error {
    constructors! {
        /// The request breaks a rule or a limit.
        invalid => Invalid;
        /// The named thing does not exist.
        not_found => NotFound;
        /// Somebody else holds it or was faster.
        conflict => Conflict;
        /// It cannot be done now; the message says what has to happen first.
        unavailable => Unavailable;
        /// The operating system or a rule forbids it.
        denied => Denied;
        /// Stored bytes are not what was written.
        corrupt => Corrupt;
        /// A newer version of PugDB wrote it.
        unsupported => Unsupported;
        /// The key that sealed it was destroyed.
        erased => Erased;
        /// The database was closed.
        closed => Closed;
        /// A bug in PugDB.
        internal => Internal;
    }

    fn new(kind: ErrorKind, message: Cow<'static, str>) -> Self {
        Self(Arc::new(Inner::new(kind, message)))
    }

    /// Bytes that are whole, and of which this version does not know what they mean. `what` names them.
    ///
    /// ```
    /// use pugdb_core::{Error, ErrorKind};
    ///
    /// let error = Error::newer("table property 17");
    /// assert_eq!(error.kind(), ErrorKind::Unsupported);
    /// assert_eq!(error.to_string(), "table property 17 is not known here: a newer version of PugDB wrote it; open it with that one");
    /// ```
    pub fn newer(what: impl fmt::Display) -> Self {
        Self::unsupported(format!(
            "{what} is not known here: a newer version of PugDB wrote it; open it with that one"
        ))
    }

    /// A conflict of transactions: the same again, from the beginning, may do.
    pub fn retry(message: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Inner { retry: true, ..Inner::new(ErrorKind::Conflict, message.into()) }))
    }

    /// A keyspace has no room for what is to be written.
    pub fn over_quota(message: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Inner { over_quota: true, ..Inner::new(ErrorKind::Unavailable, message.into()) }))
    }

    /// Wraps an error of the operating system. `doing` completes the sentence "could not …".
    pub fn io(doing: impl fmt::Display, source: io::Error) -> Self {
        let (kind, advice) = match source.kind() {
            io::ErrorKind::NotFound => (ErrorKind::NotFound, ""),
            io::ErrorKind::AlreadyExists => (ErrorKind::Conflict, ""),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                (ErrorKind::Denied, "; check owner and mode")
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                (ErrorKind::Unavailable, "; free some space, the store goes on by itself")
            }
            io::ErrorKind::UnexpectedEof => (ErrorKind::Corrupt, "; run `pugdb verify`"),
            _ => (ErrorKind::Unavailable, ""),
        };
        let disk_full = matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let message = Cow::Owned(format!("could not {doing}: {source}"));
        Self(Arc::new(Inner { advice, disk_full, source: Some(source), ..Inner::new(kind, message) }))
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// True when the cause is a disk without space: the one I/O failure that heals by itself.
    pub fn is_disk_full(&self) -> bool {
        self.0.disk_full
    }

    /// True when transactions met, and the same again, from the beginning, may do.
    pub fn is_retry(&self) -> bool {
        self.0.retry
    }

    /// True when a keyspace would pass its quota: once something is deleted there and compacted, or the quota is raised, the
    /// same may do.
    ///
    /// ```
    /// use pugdb_core::{Error, ErrorKind};
    ///
    /// let error = Error::over_quota("keyspace \"users\" is full");
    /// assert_eq!((error.kind(), error.is_over_quota()), (ErrorKind::Unavailable, true));
    /// assert!(!Error::unavailable("the disk failed").is_over_quota());
    /// ```
    pub fn is_over_quota(&self) -> bool {
        self.0.over_quota
    }

    /// What went wrong, without the advice: for those who know better what to do.
    pub fn cause(&self) -> &str {
        &self.0.message
    }

    /// The same error, saying where it happened.
    #[must_use]
    pub fn at(self, place: impl fmt::Display) -> Self {
        Self(Arc::new(Inner {
            kind: self.0.kind,
            message: Cow::Owned(format!("{place}: {}", self.0.message)),
            advice: self.0.advice,
            disk_full: self.0.disk_full,
            retry: self.0.retry,
            over_quota: self.0.over_quota,
            source: None,
        }))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.0.message, self.0.advice)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| source as _)
    }
}
