//! How much rights may be: each limit with its reason. All of it lies in memory, and is looked at by every command.

/// Users. A change copies the list of them, not what they hold.
pub const USERS_MAX: usize = 10_000;

/// Roles. They are written by hand.
pub const ROLES_MAX: usize = 1_000;

/// Bytes of the name of a user or of a role, as of a keyspace.
pub const NAME_BYTES_MAX: usize = 255;

/// Ways in which one user can say who it is. Two passwords while one is exchanged, a token for each service.
pub const CREDENTIALS_MAX: usize = 64;

/// Roles of one user: each is asked in turn.
pub const ROLES_OF_USER_MAX: usize = 32;

/// Selectors of one user or role: each is asked in turn.
pub const SELECTORS_MAX: usize = 32;

/// Rules about actions in one grant. A rule replaces earlier ones about the same, so there are never more than names.
pub const RULES_MAX: usize = 512;

/// Patterns of one kind in one grant. A key is compared with each.
pub const PATTERNS_MAX: usize = 256;

/// Bytes of a pattern. Comparing takes at most pattern times key.
pub const PATTERN_BYTES_MAX: usize = 1024;

/// Bytes of a password. What is longer is no password.
pub const PASSWORD_BYTES_MAX: usize = 4096;

/// Bytes of a name that a certificate bears.
pub const CERTIFICATE_BYTES_MAX: usize = 512;

/// Bytes of a user or a role, written out.
pub const LINE_BYTES_MAX: usize = 256 << 10;

/// Passwords whose cost may be paid at a time, 19 MiB each as they are made, 256 MiB at most. More at once would not be faster on few processors.
pub const HASHES_AT_ONCE: usize = 2;

/// Logins that are remembered, so that a pool of connections pays for one. 32 bytes each.
pub const VERIFIED_MAX: usize = 4096;

const _: () = assert!(PATTERN_BYTES_MAX < LINE_BYTES_MAX && CERTIFICATE_BYTES_MAX < LINE_BYTES_MAX);
const _: () = assert!(VERIFIED_MAX > 1024, "a pool of a thousand users fits");
