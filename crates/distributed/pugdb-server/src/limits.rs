//! The limits of the server: each has a name, a reason and a neighbour.

use std::time::Duration;

use pugdb_wire::resp::limits::BULK_BYTES_MAX;

/// Databases that `SELECT` knows, as in Redis.
pub(crate) const DATABASES: usize = 16;

/// Clients at a time when nothing else is said: the number of Redis.
pub(crate) const CLIENTS_MAX: usize = 10_000;

/// Memory for the buffers of all connections together when nothing else is said.
pub(crate) const BUFFER_BYTES: usize = 256 << 20;

/// What one read takes from a socket. A pipeline shares one sync for each of these, so it is larger than the 16 KiB
/// of Redis; it lies on the stack while it is read, so it is small beside a thread's 2 MiB.
pub(crate) const READ_BYTES: usize = 64 << 10;

/// What is reserved ahead of a large argument, whatever length it announces.
pub(crate) const READ_AHEAD_BYTES: usize = 1 << 20;

/// Replies beyond this are sent before the next command runs: who does not read is not served, and costs no more.
pub(crate) const OUTPUT_BYTES: usize = 1 << 20;

/// One reply. Larger ones become an error.
pub(crate) const REPLY_BYTES_MAX: usize = BULK_BYTES_MAX + (1 << 20);

/// Values are fetched for a large `MGET` in portions of about this much.
pub(crate) const FETCH_BYTES: usize = 64 << 20;

/// Strings beyond this are counted, searched and combined where that holds up nobody else: it takes about 0.2 ms.
pub(crate) const HURRIED_BYTES: usize = 1 << 20;

/// Choices on the way to a random key. Each halves what is left at least, but for keys made against it.
pub(crate) const RANDOM_KEY_STEPS: usize = 256;

/// Random keys that are drawn for who may not see all of them, before it is looked for one.
pub(crate) const RANDOM_KEY_DRAWS: usize = 32;

/// Buffer memory is taken from the budget in steps, so that small replies seldom touch the shared counter.
pub(crate) const RESERVE_STEP_BYTES: usize = 16 << 10;

/// What an argument that is queued by `MULTI` takes beside its bytes.
pub(crate) const QUEUED_OVERHEAD_BYTES: usize = 64;

/// What a key that is watched takes beside its bytes.
pub(crate) const WATCHED_OVERHEAD_BYTES: usize = 256;

/// Cursors of `SCAN`. A scan under way has two, for the last one may be asked for again: these are 10,000 scans.
pub(crate) const CURSORS_MAX: usize = 20_000;

/// The keys at which those cursors stand.
pub(crate) const CURSOR_BYTES_MAX: usize = 64 << 20;

/// Keys that one `SCAN` looks at, whatever `COUNT` it asks for: one call must not hold up a thread for long.
pub(crate) const SCAN_KEYS_MAX: usize = 100_000;

/// Keys that one `SCAN` returns, in bytes.
pub(crate) const SCAN_BYTES: usize = OUTPUT_BYTES;

/// A client's name and what it says of its library.
pub(crate) const CLIENT_TEXT_BYTES_MAX: usize = 256;

/// How much of an unknown command's name is worth repeating.
pub(crate) const ECHO_BYTES_MAX: usize = 32;

/// How long a shutdown waits for connections to send what they owe.
pub(crate) const SHUTDOWN_WAIT: Duration = Duration::from_secs(5);

/// How long a connection that is closed for an error goes on reading, so that the error is not lost to a reset.
pub(crate) const LINGER: Duration = Duration::from_millis(500);

/// What such a connection reads at most.
pub(crate) const LINGER_BYTES: usize = 1 << 20;

/// The pause after a failed accept: it fails at once again while there are no file descriptors.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Silence after which the operating system asks whether a client is still there: the number of Redis.
pub(crate) const KEEPALIVE: Duration = Duration::from_mins(5);

/// How long a client may leave its replies unread: then it is closed, for they take memory. Whoever reads a byte begins
/// anew.
pub(crate) const STALL_WAIT: Duration = Duration::from_mins(1);

/// Silence is looked at this often, and the commands a second are counted over it.
pub(crate) const TICK: Duration = Duration::from_secs(1);

/// How often a connection that waits without reading looks whether its client is still there.
pub(crate) const PRESENCE_PAUSE: Duration = Duration::from_secs(1);

/// The longest `DEBUG SLEEP`, and the longest wait for replicas that never come.
pub(crate) const DELAY_MAX: Duration = Duration::from_hours(1);

/// Connections that have not been accepted yet. One more waits a second until it asks again, and thousands may come at
/// once when a network or this server comes back. Linux itself allows 4,096 if nothing else is set.
pub(crate) const BACKLOG: u32 = 4096;

/// A command that takes longer is kept by `SLOWLOG`: the number of Redis.
pub(crate) const SLOWLOG_MICROSECONDS: i64 = 10_000;

/// How many commands `SLOWLOG` keeps: the number of Redis.
pub(crate) const SLOWLOG_ENTRIES: usize = 128;

/// How many `CONFIG SET` lets it keep. An entry takes up to about 1 KiB.
pub(crate) const SLOWLOG_ENTRIES_MAX: usize = 100_000;

/// Words of a command that `SLOWLOG` keeps: the number of Redis.
pub(crate) const SLOWLOG_ARGUMENTS: usize = 32;

/// Seconds of an event that `LATENCY` keeps: the number of Redis.
pub(crate) const LATENCY_SAMPLES: usize = 160;

/// Kinds of errors that are counted by their first word. There are far fewer.
pub(crate) const ERROR_WORDS_MAX: usize = 128;

/// A request for a health page: a line and some headers.
pub(crate) const HTTP_REQUEST_BYTES: usize = 8 << 10;

/// From the first to the last byte of such a request, and for its answer.
pub(crate) const HTTP_WAIT: Duration = Duration::from_secs(5);

/// Such requests at a time: a scraper and some probes.
pub(crate) const HTTP_CONNECTIONS_MAX: usize = 64;

/// From the first to the last byte of a TLS handshake: some round trips and some milliseconds of work.
pub(crate) const TLS_HANDSHAKE_WAIT: Duration = Duration::from_secs(5);

/// Such handshakes at a time. Who says nothing loses the place to whoever comes, so more of them than these have to come
/// within one round trip to keep anybody out.
pub(crate) const TLS_HANDSHAKES_MAX: usize = 256;

/// What a handshake takes at most, but for some hundred bytes: messages of 64 KiB are put together.
pub(crate) const TLS_HANDSHAKE_BYTES: usize = 96 << 10;

/// What TLS holds of a connection: 9 KiB when it waits (`docs/benchmarks.md`), and up to 18 more while a record comes in.
pub(crate) const TLS_CONNECTION_BYTES: usize = 20 << 10;

/// Sealed bytes of a connection that wait for the socket, beside replies that are counted until these are gone.
pub(crate) const TLS_OUTPUT_BYTES: usize = 64 << 10;

/// A file with certificates: the roots of a whole system take 250 KiB.
pub(crate) const TLS_FILE_BYTES_MAX: u64 = 4 << 20;

/// Certificates in it.
pub(crate) const TLS_CERTIFICATES_MAX: usize = 4096;

/// Names that are kept of a certificate, and the bytes of one.
pub(crate) const TLS_NAMES_MAX: usize = 16;
pub(crate) const TLS_NAME_BYTES_MAX: usize = 256;

/// So long before a certificate expires the operator is told of it.
pub(crate) const TLS_EXPIRY_WARNING_MS: u64 = 30 * 86_400_000;

/// How often that is looked at.
pub(crate) const TLS_CHECK_PAUSE: Duration = Duration::from_hours(24);

/// Logins from one address that may fail before others have to wait: a pool with an old password, and its retries.
pub(crate) const LOGIN_FAILURES_MAX: u32 = 64;

/// After so long one of them is forgotten. So a guesser has 86,400 guesses a day and address.
pub(crate) const LOGIN_FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// Addresses from which logins have failed lately; all others count as one.
pub(crate) const LOGIN_SOURCES_MAX: usize = 4096;

/// Denials that `ACL LOG` keeps: the number of Redis.
pub(crate) const DENIALS: usize = 128;

/// How many it shows when nothing is said: the number of Redis.
pub(crate) const DENIALS_SHOWN: usize = 10;

/// Seconds for which denials that are alike are one: the number of Redis.
pub(crate) const DENIALS_ALIKE_S: u64 = 60;

/// Bits of a secret of `ACL GENPASS`: the number of Redis.
pub(crate) const GENERATED_BITS_MAX: usize = 4096;

/// Below this much room on the disk the server says that it is not ready: a segment of the log and a table may no longer
/// fit.
pub(crate) const DISK_FREE_BYTES_MIN: u64 = 128 << 20;

/// Chunks of commands that may wait inside the database at the same time, each on a thread of its own. Waiting takes
/// milliseconds, and more writers at once make the disk no faster.
pub(crate) const HANDED_OVER_MAX: usize = 32;

/// Threads beside those that serve connections: for chunks that hand over, for pages of HTTP, and some for what is about
/// to end. On a busy machine a thread that has nothing left to do waits for a processor before it can say so, and
/// without a limit others are made meanwhile: hundreds.
pub(crate) const BLOCKING_THREADS_MAX: usize = HANDED_OVER_MAX + HTTP_CONNECTIONS_MAX + 32;

/// How long a command that waits inside the database may at most hold up the others.
pub(crate) const WATCH_PAUSE: Duration = Duration::from_millis(5);

/// Such pauses without a command until nobody watches any more: about a second.
pub(crate) const WATCH_PAUSES_IDLE: u32 = 200;

/// `INFO` and metrics count the keys of a database up to about here, some milliseconds, and estimate larger ones.
pub(crate) const COUNTED_KEYS_MAX: u64 = 20_000;

const _: () = assert!(READ_BYTES < READ_AHEAD_BYTES && READ_AHEAD_BYTES < BUFFER_BYTES);
const _: () = assert!(OUTPUT_BYTES < REPLY_BYTES_MAX, "a reply may be larger than where replies are sent");
const _: () = assert!(RESERVE_STEP_BYTES < OUTPUT_BYTES);
const _: () = assert!(TLS_CONNECTION_BYTES < TLS_HANDSHAKE_BYTES && TLS_OUTPUT_BYTES < OUTPUT_BYTES);
const _: () = assert!(
    TLS_HANDSHAKES_MAX * TLS_HANDSHAKE_BYTES < BUFFER_BYTES / 8,
    "handshakes leave room for commands"
);
const _: () = assert!(TLS_CONNECTION_BYTES * CLIENTS_MAX < BUFFER_BYTES, "as many clients as without TLS");
const _: () =
    assert!(CURSOR_BYTES_MAX / CURSORS_MAX > 1024, "ordinary keys reach the count before the bytes");
const _: () = assert!(SLOWLOG_ENTRIES < SLOWLOG_ENTRIES_MAX && SLOWLOG_ARGUMENTS > 2);
const _: () = assert!(DENIALS_SHOWN <= DENIALS && LOGIN_FAILURE_PAUSE.as_secs() > 0);
const _: () = assert!(TICK.as_secs() == 1, "operations are counted by the second");
