//! Every number of the house: the unit in the name or the type, the reason beside it, the relations between them
//! asserted at compile time.
//!
//! What an operator may set is an option (`server::Options`), and only its default stands here.

use std::time::Duration;

/// Bytes of the longest line that a client may send, its end included.
pub const LINE_BYTES_MAX: usize = 4096;

/// Bytes of the longest line that a client takes from a server, names on one line aside.
pub const SERVER_LINE_BYTES_MAX: usize = 64 * 1024;

/// Bytes that one read for lines asks of a socket. With an incomplete line before them this bounds what a session
/// holds of its client's input.
pub const LINE_READ_BYTES: usize = 8 * 1024;

/// Bytes of gathered output at which a connection takes no further line before it has flushed.
pub const SEND_QUEUE_HIGH_WATER_BYTES: usize = 16 * 1024;

/// Bytes that one connection may move in one turn before it goes to the back of the queue. 64 KiB costs 10 to 20 %
/// more CPU a byte; 1 MiB gains nothing.
pub const SLICE_BUDGET_BYTES: usize = 256 * 1024;

/// What a command costs of a turn's budget at least, so that short commands cannot hold the loop either.
pub const COMMAND_COST_BYTES: usize = 1024;

/// Bytes of the buffer through which incoming files and discarded bytes pass: one for the whole loop.
pub const TRANSFER_BUFFER_BYTES: usize = 256 * 1024;

/// Bytes of a text whose line ends are converted in one write on their way out. On the wire they are twice as many at most.
pub const ASCII_CHUNK_BYTES: usize = 64 * 1024;

/// Bytes that a socket takes beyond what the network has taken (TCP_NOTSENT_LOWAT). Without it the kernel takes megabytes of
/// a file for a reader that has stalled, and a few hundred of those exhaust what it has for TCP. With 128 KiB bbr came to pace
/// loopback's sockets by timers; a single connection over Ethernet is no slower with 16 KiB.
pub const UNSENT_BYTES_MAX: usize = 32 * 1024;

/// How long the run queue may work before the sockets are asked again, so that who asks for little does not wait
/// for a round of everybody's budget.
pub const RUN_QUEUE_BUDGET: Duration = Duration::from_micros(250);

/// Connections accepted from one listener in one turn, and from all passive listeners together.
pub const ACCEPTS_PER_TICK_MAX: usize = 64;

/// Readiness events taken from the kernel in one turn.
pub const EVENTS_PER_TICK_MAX: usize = 1024;

/// Time between two walks over all connections for their deadlines.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Bytes of the largest file that is sent out of a standing map, in one write with what stands around it; a larger
/// one goes by `sendfile`. The copy of 64 KiB costs less than what `sendfile` cannot do: to wake the client once for the
/// length, the file and the menu. What of it a client does not take in time is held in memory, up to this much.
pub const MAPPED_FILE_BYTES_MAX: u64 = 64 * 1024;

/// Unchanged files that are kept open after their last download, so that the next need not open them again.
pub const CACHED_FILES_MAX: usize = 256;

/// How long such a file is kept without a download.
pub const CACHED_FILE_AGE_MAX: Duration = Duration::from_secs(10);

/// How long a client may take to make a data connection, and how long the server waits for one that it dials.
pub const DATA_CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// How long nobody is given an address at which a client was awaited in vain: who is late would meet somebody else.
pub const RESERVATION_COOL_DOWN: Duration = Duration::from_secs(5);

/// How long a session waits for an address of its own for a data connection, when all are taken.
pub const PASSIVE_PORT_TIMEOUT: Duration = Duration::from_secs(10);

/// Failed logins after which a connection is closed.
pub const LOGIN_FAILURES_MAX: u8 = 5;

/// Unknown commands that FTP bears before a login: more are another protocol's.
pub const UNKNOWN_COMMANDS_MAX: u8 = 5;
/// Default of `--max-failures`: failed logins of one user from one address after which they are turned away.
pub const FAILURES_MAX: u32 = 10;

/// How many times as many may fail from one address, of whatever users: several people may sit behind it.
pub const FAILURES_PER_ADDRESS_FACTOR: u32 = 2;

/// Default of `--failure-window`: how long a failed login counts at most, and so how long somebody is turned away. The first of
/// a series counts for so long, and each of them for half of it at least.
pub const FAILURE_WINDOW: Duration = Duration::from_secs(300);

/// LoginThrottle that are answered at once: slips.
pub const UNDELAYED_FAILURES: u32 = 2;

/// LoginThrottle of one user from wherever that are answered at once. Answers to right passwords never wait.
pub const UNDELAYED_USER_FAILURES: u32 = 20;

/// How long the answer to the first failure that is not free is held back; each further one twice as long.
pub const FAILURE_DELAY: Duration = Duration::from_millis(250);

/// How long it is held back at most.
pub const FAILURE_DELAY_MAX: Duration = Duration::from_secs(2);

/// Answers that are held back at once; beyond these they are given at once, since who has so many connections waits for
/// none of them.
pub const DELAYED_RESPONSES_MAX: usize = 10_000;

/// Addresses, users and pairs of them whose failures are remembered; 48 bytes each. Beyond these the older half is forgotten.
pub const THROTTLE_ENTRIES_MAX: usize = 64 * 1024;

/// How often it is looked whether those who wait for their rate may go on; what comes in as long is worth a turn.
pub const RATE_LIMIT_TICK: Duration = Duration::from_millis(10);

/// How much of a rate may be moved at once after a pause: so long the loop may be busy elsewhere without anybody losing
/// a part of his rate.
pub const RATE_LIMIT_BURST: Duration = Duration::from_millis(100);

/// How long a transfer may move less than `--min-rate`.
pub const STALL_WINDOW: Duration = Duration::from_secs(60);

/// How old a count of what a quota bounds may be before it is made again. It is kept up by what the server itself publishes and
/// removes.
pub const QUOTA_COUNT_AGE: Duration = Duration::from_secs(600);

/// Bytes of the longest name of a file or a directory (NAME_MAX of Linux).
pub const NAME_BYTES_MAX: usize = 255;

/// Digits of the longest number that a client may send; the largest such number fits in a `u64`.
pub const NUMBER_DIGITS_MAX: usize = 19;

/// Bytes that are still read and thrown away after our last byte, so that a goodbye is not overtaken by a reset.
pub const LINGER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// How long a closing connection may take to flush its goodbye and to see the peer close.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections beyond the limit of sessions that are told so in full; more are told with one write and dropped. Each
/// holds one of [`DESCRIPTORS_RESERVED`].
pub const REJECTED_CONNECTIONS_MAX: usize = 8;

/// Descriptors that one server hands over to the next at once: its control socket and its listeners (SCM_MAX_FD of Linux is 253).
pub const HANDOVER_DESCRIPTORS_MAX: usize = 64;

/// Descriptors that are kept from the sessions: standard streams, poll, signals, waker, listeners, log, workers'
/// directories and files, connections that are turned away.
pub const DESCRIPTORS_RESERVED: u64 = 32;

/// Share of the descriptors kept for the files of transfers, one in this many.
pub const TRANSFER_SHARE: u64 = 4;

/// The same where the operator chose the number of sessions.
pub const TRANSFER_SHARE_MIN: u64 = 32;

/// Default of `--max-sessions`.
pub const SESSIONS_MAX: usize = 10_000;

/// Bytes that one listing may have as text. A directory of 100,000 names of 200 bytes stays below it.
pub const LISTING_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Bytes of all listings alive at once; who asks for another waits until one has been sent.
pub const LISTINGS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes beyond these for users of whom no listing is alive: else those of one who takes his time would be waited for by all.
pub const LISTINGS_RESERVE_BYTES: usize = 32 * 1024 * 1024;

/// How long a listing may wait for memory before who asked for it is refused. Long enough for a client that does not make the
/// data connection for an earlier one to be given up.
pub const LISTING_QUEUE_TIMEOUT: Duration = Duration::from_secs(40);

/// How long a listing of an unchanged directory is given to who asks next. Short, since two changes within one tick of
/// the file system's clock look like one.
pub const LISTING_CACHE_AGE_MAX: Duration = Duration::from_secs(1);

/// Bytes that an upload copies in one slice of a worker's time, of the file that it builds on.
pub const COPY_SLICE_BYTES: usize = 16 * 1024 * 1024;

/// Bytes that a checksum reads in one slice of a worker's time.
pub const CHECKSUM_SLICE_BYTES: usize = 4 * 1024 * 1024;

/// Passwords proved lately that are remembered by their keyed hash.
pub const VERIFIED_CACHE_MAX: usize = 4096;

/// How long a proved password is remembered.
pub const VERIFIED_CACHE_AGE_MAX: Duration = Duration::from_secs(300);

/// Threads for jobs that wait for a disk.
pub const DISK_THREADS: usize = 4;

/// KiB of memory that a password's hash may ask for; each worker that proves passwords keeps as much.
pub const HASH_MEMORY_KIB_MAX: u32 = 256 * 1024;

/// KiB that proving a password may go through, all passes together: about a second.
pub const HASH_WORK_KIB_MAX: u64 = 1024 * 1024;

/// Bytes of a home's `Credentials` or `Directories`: half a million hashes.
pub const HOME_FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Bytes of one record in either: two names, the rights and a path (PATH_MAX of Linux is 4,096) stay below it.
pub const RECORD_BYTES_MAX: usize = 8 * 1024;

/// Lines of the log that may wait for a reader; more are dropped and counted.
pub const LOG_LINES_MAX: usize = 4096;

/// Bytes that the client keeps of what a server sent: a piece of a file, or a line.
pub const CLIENT_BUFFER_BYTES: usize = 256 * 1024;

/// Commands that the client sends ahead of their answers on one connection.
pub const PIPELINED_COMMANDS_MAX: usize = 64;

/// Bytes of a file up to which the client gathers it with others into one write; a larger one goes by `sendfile`.
pub const BATCHED_FILE_BYTES_MAX: u64 = 64 * 1024;

/// Connections of one `get` or `put`.
pub const JOBS_MAX: usize = 256;

/// Entries that the client takes from a server in one run, in all listings together; a server is not trusted to end.
pub const CLIENT_LISTING_ENTRIES_MAX: u64 = 500_000;

/// Bytes of those entries' paths.
pub const CLIENT_LISTING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of a file that cannot be kept which the client still reads and throws away; for more a new connection is cheaper.
pub const DISCARD_BYTES_MAX: u64 = 1024 * 1024;

/// Bytes for which a server that hashes or stores them is given one more second.
pub const SERVER_WORK_BYTES_PER_SECOND: u64 = 10_000_000;

const _: () = assert!(
    SERVER_LINE_BYTES_MAX < CLIENT_BUFFER_BYTES,
    "the longest line of a server fits"
);
const _: () = assert!(
    LINE_BYTES_MAX <= LINE_READ_BYTES,
    "a whole line fits in one read"
);
const _: () = assert!(
    SEND_QUEUE_HIGH_WATER_BYTES + MAPPED_FILE_BYTES_MAX as usize <= SLICE_BUDGET_BYTES,
    "a full outbox, the file that filled it included, can leave in one turn"
);
const _: () = assert!(
    TRANSFER_BUFFER_BYTES <= SLICE_BUDGET_BYTES,
    "one full read is within a turn's budget"
);
const _: () = assert!(
    2 * ASCII_CHUNK_BYTES <= SLICE_BUDGET_BYTES && ASCII_CHUNK_BYTES <= TRANSFER_BUFFER_BYTES,
    "a piece of text is read and written within a turn's budget"
);
const _: () = assert!(NUMBER_DIGITS_MAX == 19, "the largest u64 has 20 digits");
const _: () = assert!(
    2 * NAME_BYTES_MAX + 4096 < RECORD_BYTES_MAX,
    "every possible grant is a record"
);
const _: () = assert!(
    LISTING_BYTES_MAX <= LISTINGS_BYTES_MAX && LISTING_BYTES_MAX <= LISTINGS_RESERVE_BYTES,
    "the longest listing can be had, whatever one user has"
);
const _: () = assert!(
    LISTING_QUEUE_TIMEOUT.as_secs() > DATA_CONNECTION_TIMEOUT.as_secs(),
    "who waits outlasts a data connection that does not come"
);
const _: () = assert!(
    REJECTED_CONNECTIONS_MAX as u64 <= DESCRIPTORS_RESERVED / 4,
    "those who are turned away leave descriptors to work with"
);
