//! Every limit of the server and of the client: its value, its unit, and its reason.
//!
//! The unit is in the name or in the type. Relations between limits are asserted at compile time.
//! Options that an operator sets are in `server::options`; only their defaults are here.

use std::time::Duration;

// Lines, names and numbers.

/// Maximum length of a line from a client, line end included.
pub const LINE_BYTES_MAX: usize = 4096;

/// Maximum length of a line that the client accepts from a server, except for listings on one line.
pub const SERVER_LINE_BYTES_MAX: usize = 64 * 1024;

/// Size of one read for lines. With an incomplete line before it, this bounds the input that a
/// session holds.
pub const LINE_READ_BYTES: usize = 8 * 1024;

/// Maximum length of the name of a file or a directory (Linux's NAME_MAX).
pub const NAME_BYTES_MAX: usize = 255;

/// Maximum number of digits of a number from a client: the largest such number fits in a `u64`.
pub const NUMBER_DIGITS_MAX: usize = 19;

const _: () = assert!(LINE_BYTES_MAX <= LINE_READ_BYTES, "a line fits in one read");
const _: () = assert!(NUMBER_DIGITS_MAX == 19, "the largest u64 has 20 digits");

// Time slices and buffers of the event loop.

/// Bytes that one connection may move in a time slice before others take their turn. With 64 KiB a
/// transfer costs 10 to 20 % more CPU time per byte; 1 MiB gains nothing.
pub const SLICE_BUDGET_BYTES: usize = 256 * 1024;

/// Minimum cost of a command in the budget of a time slice, so that short commands cannot occupy
/// the loop either.
pub const COMMAND_COST_BYTES: usize = 1024;

/// Length of the send queue at which a connection takes no further line before it has flushed.
pub const SEND_QUEUE_HIGH_WATER_BYTES: usize = 16 * 1024;

/// Size of the buffer for received files and discarded bytes. The event loop has one for all
/// connections.
pub const TRANSFER_BUFFER_BYTES: usize = 256 * 1024;

/// Bytes of a text file whose line ends are converted for one write. They at most double.
pub const ASCII_CHUNK_BYTES: usize = 64 * 1024;

/// Bytes that a socket accepts beyond those on the network (TCP_NOTSENT_LOWAT). By default the
/// kernel accepts megabytes of a file for a stalled reader, and a few hundred stalled readers
/// exhaust its memory for TCP. With 128 KiB, bbr paces loopback sockets by timers. A single
/// connection over Ethernet is as fast with 16 KiB.
pub const UNSENT_BYTES_MAX: usize = 32 * 1024;

/// Time for which the run queue works before the sockets are polled again, so that short requests
/// do not wait for a time slice of every transfer.
pub const RUN_QUEUE_BUDGET: Duration = Duration::from_micros(250);

/// Maximum number of readiness events per poll.
pub const EVENTS_PER_TICK_MAX: usize = 1024;

/// Maximum number of connections accepted per tick from one listener, and from all passive
/// listeners together.
pub const ACCEPTS_PER_TICK_MAX: usize = 64;

/// Interval of the sweep over all connections for their deadlines.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

const _: () = assert!(
    TRANSFER_BUFFER_BYTES <= SLICE_BUDGET_BYTES,
    "one full read is within the budget of a time slice"
);
const _: () = assert!(
    SEND_QUEUE_HIGH_WATER_BYTES + MAPPED_FILE_BYTES_MAX as usize <= SLICE_BUDGET_BYTES,
    "a full send queue, with a mapped file, leaves within one time slice"
);
const _: () = assert!(
    2 * ASCII_CHUNK_BYTES <= SLICE_BUDGET_BYTES && ASCII_CHUNK_BYTES <= TRANSFER_BUFFER_BYTES,
    "a chunk of text is read and written within one time slice"
);

// Sessions and their connections.

/// Default of `--max-sessions`.
pub const SESSIONS_MAX: usize = 10_000;

/// Ports below which a range of passive ports is reported at the start, if no option says how many
/// sessions are expected. Clients behind one NAT address share the range: a port serves one
/// transfer per client address.
pub const PASSIVE_PORTS_ADVISED: usize = 100;

/// Descriptors reserved for standard streams, poll, signals, waker, listeners, logs, the
/// directories and files of workers, and rejected connections.
pub const DESCRIPTORS_RESERVED: u64 = 32;

/// Share of the remaining descriptors that is reserved for the files of transfers: one in this
/// many. With FTP as many again are reserved for data connections.
pub const TRANSFER_SHARE: u64 = 4;

/// The same where the operator chose the number of sessions and may expect few transfers.
pub const TRANSFER_SHARE_MIN: u64 = 32;

/// Connections over a limit that receive the full rejection. Further ones receive it in one write
/// and are closed. Each uses one of [`DESCRIPTORS_RESERVED`].
pub const REJECTED_CONNECTIONS_MAX: usize = 8;

/// Bytes read and discarded after the server's last byte, so that the last message is not overtaken
/// by a reset.
pub const LINGER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Time for which a closing connection may flush its last message and wait for the peer to close.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for which a client that has closed its sending half still gets the response to its last
/// request. It may have closed altogether.
pub const CLIENT_LEFT_TIMEOUT: Duration = Duration::from_secs(2);

/// [`LINGER_TIMEOUT`] during a graceful shutdown, once the peer has acknowledged everything.
pub const DRAIN_LINGER_TIMEOUT: Duration = Duration::from_millis(800);

/// Time without input after which an acknowledged connection is closed earlier than that.
pub const DRAIN_QUIET_TIME: Duration = Duration::from_millis(300);

/// Interval at which lingering connections are looked at during a graceful shutdown: no event
/// reports an acknowledgement.
pub const DRAIN_LINGER_INTERVAL: Duration = Duration::from_millis(100);

/// Descriptors passed in one handover: the control socket and the listeners. Linux's SCM_MAX_FD is
/// 253.
pub const HANDOVER_DESCRIPTORS_MAX: usize = 64;

/// Clients of the control socket at once; further ones wait. Each uses one of
/// [`DESCRIPTORS_RESERVED`].
pub const CONTROL_CLIENTS_MAX: usize = 8;

/// Maximum length of a request on the control socket.
pub const CONTROL_LINE_BYTES_MAX: usize = 4096;

/// Length of the answers to one request from which on they are cut short, so that the socket
/// buffers all of them: the server does not wait for the client.
pub const CONTROL_ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Sweeps for which a client of the control socket may be silent.
pub const CONTROL_REQUEST_TICKS: u32 = 10;

const _: () = assert!(
    REJECTED_CONNECTIONS_MAX as u64 <= DESCRIPTORS_RESERVED / 4,
    "rejected connections leave descriptors to work with"
);
const _: () = assert!(
    TRANSFER_SHARE > 2,
    "files and data connections leave descriptors to sessions"
);

// Data connections of FTP.

/// Time for which the server waits for a data connection, accepted or dialed.
pub const DATA_CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// Cool-down before a passive port is reused for the same client address after a missed connection,
/// so that a late connection cannot reach another session.
pub const RESERVATION_COOL_DOWN: Duration = Duration::from_secs(5);

/// Passive listeners that stay open without a range of ports. More are opened when all are reserved
/// for a client's address, and closed after use. A listener for each transfer would be slow: the
/// more recent connections the kernel remembers, the longer bind(2) takes.
pub const SHARED_PASSIVE_PORTS: usize = 16;

/// Time for which a session waits for a passive port when all are reserved.
pub const PASSIVE_PORT_TIMEOUT: Duration = Duration::from_secs(10);

/// Unknown commands tolerated before login. More than this suggests that the peer does not speak
/// FTP.
pub const UNKNOWN_COMMANDS_MAX: u8 = 5;

// Authentication and brute force.

/// Failed logins after which a connection is closed.
pub const LOGIN_FAILURES_MAX: u8 = 5;

/// Default of `--max-failures`: failed logins of one user from one address that block the pair.
pub const FAILURES_MAX: u32 = 10;

/// Failed logins from one address, of any users, block the address at this multiple of
/// `--max-failures`: several people may share an address.
pub const FAILURES_PER_ADDRESS_FACTOR: u32 = 2;

/// Default of `--failure-window`: maximum time for which a failed login counts, and so for which a
/// client is blocked. The first failure of a series counts for this long, each further one for at
/// least half of it.
pub const FAILURE_WINDOW: Duration = Duration::from_secs(300);

/// Failed logins of one client that are not delayed: typing errors.
pub const UNDELAYED_FAILURES: u32 = 2;

/// Failed logins of one user, from all clients, that are not delayed.
pub const UNDELAYED_USER_FAILURES: u32 = 20;

/// Delay of the response to the first delayed failure. It doubles with each further failure.
/// Successful logins are never delayed.
pub const FAILURE_DELAY: Duration = Duration::from_millis(250);

/// Maximum delay of a response.
pub const FAILURE_DELAY_MAX: Duration = Duration::from_secs(2);

/// Maximum number of delayed responses. Further ones are sent at once: a client with that many
/// connections is not slowed down by delays.
pub const DELAYED_RESPONSES_MAX: usize = 10_000;

/// Clients, users and pairs of them whose failures are counted; 48 bytes each. Beyond this the
/// older half is forgotten.
pub const THROTTLE_ENTRIES_MAX: usize = 64 * 1024;

/// Pairs of a user and a network from which the user has logged in; 16 bytes each.
pub const FAMILIAR_LOGINS_MAX: usize = 64 * 1024;

/// Virtual time that a login takes in the queue of logins: how many logins of other clients,
/// networks and users may come between two of the same.
pub const LOGIN_COST: u64 = 64;

/// Failed logins of a network that make its logins cost [`LOGIN_COST`] more.
pub const LOGIN_COST_FAILURES: u32 = 8;

/// Maximum cost of a login of a network with failed logins, as a multiple of [`LOGIN_COST`].
pub const LOGIN_COST_FACTOR_MAX: u64 = 16;

/// Maximum virtual time by which a login is put off, and so the number of later logins that it lets
/// pass: about a minute of logins.
pub const LOGIN_LEAD_MAX: u64 = 4096;

/// Clients, networks and users whose next login in the queue is put off.
pub const LOGIN_CLOCKS_MAX: usize = 64 * 1024;

/// Recently verified passwords remembered by their keyed hash.
pub const VERIFIED_CACHE_MAX: usize = 4096;

/// Time for which a verified password is remembered.
pub const VERIFIED_CACHE_AGE_MAX: Duration = Duration::from_secs(300);

/// Maximum memory in KiB that a password hash may require. Each worker that verifies passwords
/// keeps this much.
pub const HASH_MEMORY_KIB_MAX: u32 = 256 * 1024;

/// Maximum memory in KiB that the passes of one verification may process: about a second.
pub const HASH_WORK_KIB_MAX: u64 = 1024 * 1024;

const _: () = assert!(
    UNDELAYED_FAILURES < FAILURES_MAX,
    "a client is slowed down before it is blocked"
);
const _: () = assert!(
    FAILURE_DELAY.as_millis() <= FAILURE_DELAY_MAX.as_millis(),
    "delays grow"
);
const _: () = assert!(
    HASH_MEMORY_KIB_MAX as u64 <= HASH_WORK_KIB_MAX,
    "one pass over the maximum memory is within the maximum work"
);

// Rates of transfers.

/// Interval at which parked connections are checked for tokens. The tokens of one interval are
/// enough for a time slice.
pub const RATE_LIMIT_TICK: Duration = Duration::from_millis(10);

/// Size of a full token bucket, as the time in which it fills: the loop may be busy with other
/// connections for this long without loss of rate.
pub const RATE_LIMIT_BURST: Duration = Duration::from_millis(100);

/// Time over which a transfer must reach `--min-rate`.
pub const STALL_WINDOW: Duration = Duration::from_secs(60);

const _: () = assert!(
    2 * RATE_LIMIT_TICK.as_millis() <= RATE_LIMIT_BURST.as_millis(),
    "a bucket does not overflow between two checks"
);

// Files and uploads.

/// Maximum size of a file that is sent from a mapping, in one write with the output around it;
/// larger files are sent by `sendfile`. Copying 64 KiB costs less than waking the client twice, for
/// the length and for the file. Bytes that the client does not accept are kept in memory.
pub const MAPPED_FILE_BYTES_MAX: u64 = 64 * 1024;

/// Unchanged files that stay open after their last download.
pub const CACHED_FILES_MAX: usize = 256;

/// Time for which such a file stays open without a download.
pub const CACHED_FILE_AGE_MAX: Duration = Duration::from_secs(10);

/// Bytes of an existing file that an upload copies in one slice of a worker's time.
pub const COPY_SLICE_BYTES: usize = 16 * 1024 * 1024;

/// Bytes that a checksum reads in one slice of a worker's time.
pub const CHECKSUM_SLICE_BYTES: usize = 4 * 1024 * 1024;

/// Age at which the usage of a quota is counted again. The server keeps it up to date for its own
/// changes, but not for those of other programs.
pub const QUOTA_COUNT_AGE: Duration = Duration::from_secs(600);

/// Time after which a file call counts as slow, unless the thread waited for a processor. Ten times
/// a seek of a hard disk.
pub const SLOW_CALL: Duration = Duration::from_millis(20);

/// Slow ones among the last 64 calls of a device that take it off the event loop.
pub const SLOW_CALLS_MAX: u32 = 3;

/// Time without a slow call after which a device returns to the event loop. Longer than the pauses
/// of a disk whose writes are throttled.
pub const DEVICE_RECOVERY: Duration = Duration::from_secs(10);

/// Time after which a call on a file system that has not returned makes its device stuck. Longer
/// than a disk takes to spin up, and than a network file system takes to reconnect.
pub const DISK_TIMEOUT: Duration = Duration::from_secs(10);

/// Time after which a granted directory that a worker could not open counts as remote.
pub const ROOT_OPEN_MAX: Duration = Duration::from_secs(1);

/// Interval at which the granted directories are opened again, to notice mounts that have changed.
pub const ROOTS_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Interval at which a stuck device is tried again. Each try may cost a thread for as long as the
/// device hangs.
pub const DISK_PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// Time in which a probe has to return; else its device is stuck. Short, since a call has exceeded
/// [`DISK_TIMEOUT`] already, and the other sessions of the lane wait.
pub const DISK_PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes per second that a disk under load is expected to write at least: publishing an upload may
/// take longer than [`DISK_TIMEOUT`] by its length at this rate, since fsync(2) is one call.
pub const SYNC_BYTES_PER_SECOND: u64 = 1024 * 1024;

/// Worker threads for the jobs of all devices. A thread in a call that does not return is lost to
/// the others, so there are enough for several devices that hang, each with [`LANE_THREADS_MAX`],
/// next to a few that work. An idle thread takes some KiB.
pub const DISK_THREADS: usize = 24;

/// Those of them that only local devices may use: however many network file systems hang, local
/// disks are served.
pub const DISK_THREADS_RESERVED: usize = 4;

/// Jobs of one device that run at once. Enough to keep a disk with a queue busy.
pub const LANE_THREADS_MAX: usize = 4;

/// Threads of one device, those in calls that were given up included. After four calls that never
/// return, four others may run.
pub const LANE_OCCUPIED_MAX: usize = 2 * LANE_THREADS_MAX;

/// How much faster time passes for sweeps and counts than for the work of users in the same lane.
pub const BACKGROUND_COST: u32 = 4;

/// Stack of such a thread. Buffers are on the heap, and nothing is recursive.
pub const WORKER_STACK_BYTES: usize = 512 * 1024;

/// Time that the stop of the workers waits for their running calls.
pub const WORKER_STOP_TIMEOUT: Duration = Duration::from_millis(500);

const _: () = assert!(
    LANE_OCCUPIED_MAX + DISK_THREADS_RESERVED < DISK_THREADS,
    "one device that hangs leaves threads for others"
);

const _: () = assert!(
    TRANSFER_BUFFER_BYTES <= CHECKSUM_SLICE_BYTES,
    "a slice is at least one read"
);

// Listings.

/// Maximum size of one listing. A directory of 100,000 names of 200 bytes stays below it.
pub const LISTING_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Maximum size of all listings in memory. Further listings wait until one has been sent.
pub const LISTINGS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Memory that a listing in progress takes before its length is known: some thousand entries.
pub const LISTING_START_BYTES: usize = 256 * 1024;

/// Memory reserved for users without a listing in memory, so that slow clients of one user do not
/// delay the listings of others.
pub const LISTINGS_RESERVE_BYTES: usize = 32 * 1024 * 1024;

/// Time for which a listing may wait for memory before it is refused. Long enough for a client that
/// does not open the data connection for an earlier listing to time out.
pub const LISTING_QUEUE_TIMEOUT: Duration = Duration::from_secs(40);

/// Time for which the listing of an unchanged directory is reused. Short, because two changes
/// within the resolution of the file system's clock look like one.
pub const LISTING_CACHE_AGE_MAX: Duration = Duration::from_secs(1);

const _: () = assert!(
    LISTING_BYTES_MAX <= LISTINGS_BYTES_MAX && LISTING_BYTES_MAX <= LISTINGS_RESERVE_BYTES,
    "the longest listing fits, whatever other users have in memory"
);
const _: () = assert!(
    LISTING_QUEUE_TIMEOUT.as_secs() > DATA_CONNECTION_TIMEOUT.as_secs(),
    "a listing waits longer than a data connection that is not opened"
);

// Configuration and logs.

/// Maximum size of a home's `Credentials` or `Directories`: half a million hashes.
pub const HOME_FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Maximum length of one record in either file.
pub const RECORD_BYTES_MAX: usize = 8 * 1024;

/// Lines that may wait to be written to a log. Further lines are dropped and counted.
pub const LOG_LINES_MAX: usize = 4096;

/// Bytes that the writer of the event log gathers for one write, exceeded by at most one line.
pub const LOG_WRITE_BYTES: usize = 64 * 1024;

/// Maximum wait for the last lines of the transfer log at the end, and the interval at which its
/// writer checks for a request to reopen the file.
pub const TRANSFER_LOG_TIMEOUT: Duration = Duration::from_millis(500);

const _: () = assert!(
    2 * NAME_BYTES_MAX + 4096 < RECORD_BYTES_MAX,
    "two names, the rights and a path (Linux's PATH_MAX is 4,096) fit in a record"
);

// The client.

/// Size of the client's receive buffer: a piece of a file, or a line.
pub const CLIENT_BUFFER_BYTES: usize = 256 * 1024;

/// Commands that the client sends ahead of their replies on one connection.
pub const PIPELINED_COMMANDS_MAX: usize = 64;

/// Maximum size of a file that the client gathers with others into one write; larger files are sent
/// by `sendfile`.
pub const BATCHED_FILE_BYTES_MAX: u64 = 64 * 1024;

/// Maximum number of connections of one `get` or `put`.
pub const JOBS_MAX: usize = 256;

/// Maximum number of entries in all listings of one run. A server is not trusted to end a listing.
pub const CLIENT_LISTING_ENTRIES_MAX: u64 = 500_000;

/// Maximum length of the paths of those entries together.
pub const CLIENT_LISTING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of an unusable file that the client reads and discards. For a longer file it opens a new
/// connection, which is cheaper.
pub const DISCARD_BYTES_MAX: u64 = 1024 * 1024;

/// Bytes that a server is expected to hash or store per second, for the client's timeouts.
pub const SERVER_WORK_BYTES_PER_SECOND: u64 = 10_000_000;

const _: () = assert!(
    SERVER_LINE_BYTES_MAX < CLIENT_BUFFER_BYTES,
    "the longest line of a server fits in the buffer"
);
