//! Every number that is a limit and not a setting, with its unit last.
//!
//! The relations between them that the code relies on are asserted at compile time, below.

/// Shards of the log; recorded in the database, because changing it would move rooms.
pub const SHARDS: u16 = 64;

/// Longest id of a room, user or message, in bytes of UTF-8.
pub const ID_BYTES_MAX: usize = 128;

/// Longest text of one message, in bytes of UTF-8.
pub const CONTENT_BYTES_MAX: usize = 256 * 1024;

/// Largest metadata object of one message, in bytes of its compact JSON.
pub const METADATA_BYTES_MAX: usize = 16 * 1024;

/// Deepest nesting of objects and arrays in metadata, the outer object counted.
pub const METADATA_LEVELS_MAX: usize = 16;

/// Furthest exponent of a number in metadata that is a number in the database too: a little beyond
/// what programs calculate with.
pub const NUMBER_EXPONENT_MAX: i32 = 400;

/// Longest number in metadata that is a number in the database too, in bytes.
pub const NUMBER_BYTES_MAX: usize = 1000;

/// Largest movement of credits in one entry.
pub const CREDITS_MAX: u64 = 1_000_000_000_000;

/// Messages that an unread count counts at most.
pub const UNREAD_MAX: u64 = 1000;

/// Receipts in a join's reply at most; the reader's own is always among them.
pub const RECEIPTS_LISTED_MAX: usize = 500;

/// Receipts of a room that a node remembers, the furthest.
pub const RECEIPTS_REMEMBERED_MAX: usize = 2000;

/// How often the members of a room are told of one user's receipt at most, in milliseconds.
pub const RECEIPT_INTERVAL_MS: u64 = 250;

/// How often one user's receipts go into the log at most, on each node, in milliseconds; what comes
/// meanwhile waits, the furthest of each room.
pub const RECEIPT_LOG_INTERVAL_MS: u64 = 1_000;

/// Users whose last receipts are remembered before those that no longer matter are forgotten.
pub const RECEIPT_TURNS_MAX: usize = 4_096;

/// People that a room lists; of more it tells the count.
pub const PRESENCE_LISTED_MAX: usize = 500;

/// People below which a room that had more than it lists is listed again: not at the same number,
/// or one person at the door would make everybody read the list each time.
pub const PRESENCE_LISTED_AGAIN: usize = 450;

/// How long a node's word about who is there holds, in milliseconds.
pub const LEASE_MS: u64 = 6_000;

/// How often a node renews its lease, in milliseconds.
pub const LEASE_RENEW_MS: u64 = 2_000;

/// How often a node looks which leases hold, in milliseconds.
pub const LEASE_LOOK_MS: u64 = 1_000;

/// How long one node alone may take to clean up after another, in milliseconds.
pub const REAP_MS: u64 = 10_000;

/// How long somebody whose last connection ended, or whose node left, is still there, in
/// milliseconds.
pub const PRESENCE_LINGER_MS: u64 = 5_000;

/// How long changes of somebody's presence gather before members are told, in milliseconds.
pub const PRESENCE_GATHER_MS: u64 = 250;

/// How long changes gather in a room that is only counted, in milliseconds.
pub const PRESENCE_COUNT_GATHER_MS: u64 = 1_000;

/// Changes of presence that are announced together.
pub const PRESENCE_BATCH_MAX: usize = 256;

/// Signals that a room keeps while it reads who is there; beyond it the reading starts anew.
pub const PRESENCE_BUFFER_MAX: usize = 4_096;

/// How long somebody is there whom the application's backend says to be, in milliseconds.
pub const GUEST_MS: u64 = 60_000;

/// Such people on one node, counted in each room.
pub const GUESTS_MAX: usize = 50_000;

/// How exactly a node knows when somebody last did something, in milliseconds.
pub const LAST_ACTIVE_STEP_MS: i64 = 10_000;

/// How exactly the other nodes know it, in milliseconds.
pub const LAST_ACTIVE_TOLD_MS: i64 = 60_000;

/// How long a typing mark holds, in milliseconds.
pub const TYPING_MS: u64 = 5_000;

/// How soon a renewed typing mark is told again, in milliseconds.
pub const TYPING_STEP_MS: u64 = 1_000;

/// People whose typing a room shows at once.
pub const TYPING_MARKS_MAX: usize = 100;

/// Signals that may wait on one node; beyond it they are dropped.
pub const SIGNALS_WAITING_MAX: usize = 1_024;

/// How long the receipts of a room are remembered beside its log, in milliseconds.
pub const RECEIPT_MEMORY_MS: i64 = 24 * 60 * 60 * 1000;

/// The window within which what a user does is counted, in milliseconds.
pub const RATE_WINDOW_MS: i64 = 60_000;

/// Users whose counts a node keeps at a time; of more, the fleet's count is the only one.
pub const RATED_USERS_MAX: usize = 100_000;

/// What a node takes from the fleet's count at a time: one part in so many of the limit, at least
/// one. Two nodes that share a user cannot use it up to the last one, and stay below it.
pub const RATE_PORTIONS: u32 = 100;

/// Answers that may be written bit by bit in one room at a time.
pub const STREAMS_PER_ROOM_MAX: usize = 32;

/// Those of one user among them: nobody alone takes all of them.
pub const STREAMS_PER_USER_MAX: usize = 16;

/// Answers of one user that may be written at a time through one node, in all rooms.
pub const STREAMS_PER_USER_ON_NODE_MAX: usize = 128;

/// Bytes of all answers that are being written through one node.
pub const STREAMS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long the deltas of an answer gather before they go to the members together, in
/// milliseconds.
pub const STREAM_TICK_MS: u64 = 50;

/// How long an answer that nobody touches is kept in Redis, in milliseconds.
pub const STREAM_KEPT_MS: u64 = 60 * 60 * 1000;

/// Longest silence of a producer that can be set, in milliseconds.
pub const STREAM_TIMEOUT_MS_MAX: u64 = 10 * 60 * 1000;

/// How long it is remembered how an answer was closed, in milliseconds.
pub const STREAM_MEMORY_MS: u64 = 15 * 60 * 1000;

/// Closed answers that one process remembers at most.
pub const STREAMS_REMEMBERED_MAX: usize = 1024;

/// Silent answers that are looked for in one shard at a time.
pub const STREAMS_SILENT_MAX: usize = 64;

/// Longest token in an `auth` command or a header, in bytes.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Shortest secret that HS256 tokens may be signed with, in bytes: as long as their signature (RFC
/// 7518, 3.2). Whoever has one token can guess at a shorter one for as long as they like.
pub const JWT_SECRET_BYTES_MIN: usize = 32;

/// How long a one-time ticket waits for its connection, in milliseconds.
pub const TICKET_MS: i64 = 30_000;

/// How long a connection that a ticket opened may last without a token, in milliseconds.
pub const TICKET_CONNECTION_MS: i64 = 24 * 60 * 60 * 1000;

/// How long a session token holds where nothing is said, in milliseconds.
pub const SESSION_MS_DEFAULT: i64 = 24 * 60 * 60 * 1000;

/// How long a session token may hold at most, in milliseconds.
pub const SESSION_MS_MAX: i64 = 400 * 24 * 60 * 60 * 1000;

/// Tickets and session tokens that one process keeps in its memory.
pub const TOKEN_STORE_ENTRIES_MAX: usize = 100_000;

/// How long a revocation is remembered, in milliseconds: longer than any token's life.
pub const REVOCATION_MEMORY_MS: i64 = 3650 * 24 * 60 * 60 * 1000;

/// How often revocations are read anew where no signal says so, in milliseconds.
pub const REVOCATIONS_INTERVAL_MS: u64 = 30_000;

/// Pause before revocations that could not be read are asked for again, in milliseconds.
pub const REVOCATIONS_PAUSE_MS: u64 = 250;

/// Largest key set, in bytes.
pub const JWKS_BYTES_MAX: usize = 1024 * 1024;

/// Keys in a key set at most.
pub const JWKS_KEYS_MAX: usize = 100;

/// How long reading a key set may take, in milliseconds.
pub const JWKS_TIMEOUT_MS: u64 = 5_000;

/// How often a key set is read anew, in milliseconds.
pub const JWKS_INTERVAL_MS: u64 = 5 * 60 * 1000;

/// Least pause between two readings of a key set, in milliseconds.
pub const JWKS_PAUSE_MS: u64 = 10_000;

/// Largest encoded [`Envelope`](super::envelope::Envelope), in bytes: content whose every byte JSON
/// escapes to six, metadata, ids and room for field names.
pub const ENVELOPE_BYTES_MAX: usize = 6 * CONTENT_BYTES_MAX + 2 * METADATA_BYTES_MAX + 16 * 1024;

/// Largest reply or page sent to a client, in bytes; what does not fit follows (`hasMore`). One
/// message is always in it, however large.
pub const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of the database's rows at which a reading for one page ends.
pub const ROWS_BYTES_MAX: usize = 2 * PAGE_BYTES_MAX;

/// Messages of a page where the client names no limit.
pub const PAGE_ROWS_DEFAULT: u32 = 50;

/// Most messages a client may ask for in one page.
pub const PAGE_ROWS_MAX: u32 = 200;

/// Frames waiting for one client, in bytes; beyond it logged messages wait in the room's memory.
pub const SEND_QUEUE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Frames waiting for one client below which a lagging one is caught up, in bytes.
pub const SEND_QUEUE_BYTES_LOW: usize = SEND_QUEUE_BYTES_MAX / 8;

/// What an event's frame may have more than the envelope it is made of: its header, name and
/// position, in bytes.
pub const FRAME_OVERHEAD_BYTES: usize = 1024;

/// How long a closing connection may linger for the client's own close, in milliseconds.
pub const CLOSE_LINGER_MS: u64 = 1_000;

/// How long a connection may stay without having said who it is, in milliseconds.
pub const AUTH_TIMEOUT_MS: u64 = 5_000;

/// Largest message of a client that has not said yet who it is, in bytes: room for a token.
pub const UNPROVEN_FRAME_BYTES_MAX: usize = 16 * 1024;

/// Messages and pings of a client that has not said yet who it is, the one that says it among them.
pub const UNPROVEN_FRAMES_MAX: usize = 8;

/// Sockets of clients that have not said who they are above all the connections that there may be:
/// a full node still tells them so.
pub const UNPROVEN_SPARE: usize = 64;

/// Sockets that are told at a time that there is no place for them; more are closed untold.
pub const TURNED_AWAY_MAX: usize = 64;

/// How long a client may take for an answer over HTTP, in milliseconds.
pub const ANSWER_TIMEOUT_MS: u64 = 30_000;

/// How long it may when the node leaves, in milliseconds.
pub const LEAVE_ANSWER_TIMEOUT_MS: u64 = 5_000;

/// How long a client may take for the request line and headers, in milliseconds.
pub const HEADER_TIMEOUT_MS: u64 = 5_000;

/// How long one message may take from its first to its last byte, in milliseconds.
pub const MESSAGE_TIMEOUT_MS: u64 = 10_000;

/// Most bytes of a request's line and headers.
pub const HEADER_BYTES_MAX: usize = 16 * 1024;

/// Most headers in a request.
pub const HEADERS_MAX: usize = 64;

/// Largest body of a request to the API, in bytes.
pub const API_BODY_BYTES_MAX: usize = 1024 * 1024;

/// How long a client may take for the body of a request, in milliseconds.
pub const API_BODY_TIMEOUT_MS: u64 = 10_000;

/// Longest `Idempotency-Key`, in bytes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// Messages, movements of credits or marks of presence in one request at most.
pub const API_BATCH_MAX: usize = 500;

/// Commands of one connection whose answers are still being waited for.
pub const COMMANDS_IN_FLIGHT_MAX: usize = 1024;

/// Entries of a room that a node remembers, to serve joins and resumes without asking anyone.
pub const RECENT_ENTRIES_MAX: usize = 512;

/// Bytes of a room's remembered entries on a node.
pub const RECENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Publications that a room keeps while it is synchronised; beyond it the reading starts anew.
pub const SYNC_BUFFER_ENTRIES_MAX: usize = 4096;

/// Entries read from the ring or the database in one step of synchronising or catching up.
pub const CATCH_UP_ROWS: u32 = 200;

/// Changes that a resuming client may be behind before it is told to read the room anew.
pub const RESUME_ENTRIES_MAX: u64 = 10_000;

/// Entries of a room's ring that are kept even when all of them are persisted.
pub const RING_ENTRIES: usize = 1000;

/// Bytes of a room's ring that are kept when all of it is persisted.
pub const RING_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes at which one reading of a log or a ring ends: no script runs for long, and an answer comes
/// within the patience of whoever asked.
pub const LOG_READ_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Bytes of a shard's log that are not persisted; at them senders are told `backpressure`.
pub const LOG_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of the log in memory, over all shards, and of what it delivers.
pub const MEMORY_LOG_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How much of its `maxmemory` a Redis may use before senders are told `backpressure` and nothing
/// is kept that need not be, in percent: what is left is for what frees it.
pub const REDIS_MEMORY_PERCENT: u64 = 80;

/// Appends that may wait for one shard on one gateway; beyond it the sender is told `backpressure`.
pub const APPEND_QUEUE_MAX: usize = 8192;

/// Entries of a shard that one gateway has accepted and the database is not known to have; beyond
/// it senders are told `backpressure`.
pub const RETAINED_ENTRIES_MAX: usize = 50_000;

/// Bytes of those.
pub const RETAINED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Edits of a shard that one gateway holds back until their messages are back in the log.
pub const HELD_EDITS_MAX: usize = 1000;

/// How long they are, in milliseconds.
pub const HELD_EDIT_MS_MAX: u64 = 60_000;

/// Appends that travel in one call.
pub const APPEND_BATCH_MAX: usize = 256;

/// Bytes of appends that travel in one call; one always does.
pub const APPEND_BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Longest an append may be without an answer before its sender is told that the outcome is
/// unknown, in milliseconds.
pub const APPEND_TIMEOUT_MS: u64 = 10_000;

/// How long an id whose entry was trimmed is remembered beside the log, in milliseconds.
pub const ID_MEMORY_MS: i64 = 15 * 60 * 1000;

/// Age by its `UUIDv7` time from which an id is looked up in the database, in milliseconds.
pub const ID_LATE_MS: i64 = 10 * 60 * 1000;

/// How far an id's `UUIDv7` time may be ahead of the server's, in milliseconds.
pub const ID_AHEAD_MS_MAX: i64 = 5 * 60 * 1000;

/// Entries of a room that the database refused and the log remembers at most, the newest.
pub const REFUSALS_REMEMBERED_MAX: usize = 256;

/// How long they are remembered, in milliseconds: as long as anything says that they are behind.
pub const REFUSAL_MEMORY_MS: i64 = ROOM_MEMORY_MS;

/// How long a room's head and ring stay after all of it was persisted, in milliseconds.
pub const ROOM_MEMORY_MS: i64 = 20 * 60 * 1000;

/// Oldest answer of the database that may set a head that the log does not know, in milliseconds.
pub const HYDRATION_AGE_MS_MAX: i64 = 30_000;

/// Rooms of a node whose heads are looked up in the database at a time, to be read.
pub const HYDRATIONS_MAX: usize = 4;

/// How long a node waits for its turn to spend a user's credits, in milliseconds.
pub const SPENDING_WAIT_MS: u64 = 5000;

/// How long a turn is fresh enough to spend in it, in milliseconds.
pub const SPENDING_FRESH_MS: u64 = 5000;

/// How long a turn of a node that is gone is respected, in milliseconds.
pub const SPENDING_TURN_MS: u64 = 20_000;
const _: () = assert!(SPENDING_FRESH_MS + APPEND_TIMEOUT_MS < SPENDING_TURN_MS);

/// How long it is waited for whether credits that may cover a cost do, in milliseconds.
pub const SPENDING_SETTLE_MS: u64 = 2000;

/// Rows from which a batch whose every row fails stops its shard instead of filling dead letters.
pub const DEAD_LETTERS_IN_A_ROW_MAX: usize = 10;

/// Persisted entries that a shard's log keeps at most, however young.
pub const LOG_KEPT_ENTRIES_MAX: u64 = 50_000;

/// Bytes of those.
pub const LOG_KEPT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// How much later than its time what is persisted leaves the log at most, in milliseconds.
pub const LOG_KEPT_LATE_MS: u64 = 1_000;

/// From one transaction of a worker to the next where much comes in, in milliseconds.
pub const ROUND_INTERVAL_MS: u64 = 100;

/// Bytes of one transaction of the worker; an entry counts for [`BATCH_ENTRY_BYTES`] besides.
pub const BATCH_BYTES_MAX: usize = 2 * 1024 * 1024;

/// What an entry costs a transaction beside its bytes.
pub const BATCH_ENTRY_BYTES: usize = 1024;

/// How long a transaction of the worker should take, in milliseconds: longer, and the next has half
/// as many bytes.
pub const BATCH_MS: u64 = 500;

/// Messages that are erased in one transaction.
pub const ERASE_ROWS: u32 = 1000;

/// How long an erasure waits for what is in the log to get into the database, in milliseconds.
pub const ERASE_PATIENCE_MS: u64 = 60_000;

/// Messages that expire in one transaction.
pub const EXPIRE_ROWS: u32 = 1000;

/// How often it is looked whether messages have expired, in milliseconds.
pub const EXPIRE_INTERVAL_MS: u64 = 60_000;

/// How often each room's head is compared with the log's, in milliseconds.
pub const COMPARE_INTERVAL_MS: u64 = 30_000;

/// How long what is published may be on its way to a room, in milliseconds.
pub const COMPARE_GRACE_MS: u64 = 2_000;

/// How long a room without local members stays subscribed, in milliseconds.
pub const ROOM_LINGER_MS: u64 = 5_000;

/// How long what does not do its work is waited for before a process says that it is degraded, in
/// milliseconds.
pub const TROUBLE_MS_MAX: u64 = 2_000;

/// After how long without anything coming back that was published a node leaves traffic, in
/// milliseconds.
pub const DEAF_MS_MAX: u64 = 5_000;

/// For how long after it last did somebody's work Redis is taken to do it still, in milliseconds.
pub const REDIS_OK_FRESH_MS: u64 = 12_000;

/// By how much later Redis has to have done another node's work than this one's for this one to be
/// alone without it, in milliseconds.
pub const REDIS_OK_LEAD_MS: u64 = 3_000;

/// After how long a node that left traffic because of Redis comes back at the earliest and at the
/// latest, in milliseconds.
pub const RETURN_MS_MIN: u64 = 5_000;
/// See [`RETURN_MS_MIN`].
pub const RETURN_MS_MAX: u64 = 10_000;

/// How long the database may take for the write by which a process sees that it works, in
/// milliseconds.
pub const BEAT_PATIENCE_MS: u64 = 5_000;

/// How long the database remembers a process that writes no more, in milliseconds.
pub const BEAT_MEMORY_MS: i64 = 60 * 60 * 1000;

/// How long an epoch that the database never minted counts against the deployment's name, in
/// milliseconds.
pub const FOREIGN_EPOCH_MEMORY_MS: i64 = 60 * 60 * 1000;

/// Epochs of a shard that the database may not know within that time: one, when it was set back. At
/// two, another database writes the same log.
pub const FOREIGN_EPOCHS_MAX: i64 = 1;

/// Log lines that may wait to be written, in bytes; what does not fit is dropped.
pub const LOG_QUEUE_BYTES_MAX: usize = 1024 * 1024;

// A lagging client must be catchable: behind what may still wait in its queue when it is caught
// up, a page and the largest message each have to fit.
const _: () = assert!(SEND_QUEUE_BYTES_LOW + PAGE_BYTES_MAX <= SEND_QUEUE_BYTES_MAX);
const _: () = assert!(
    SEND_QUEUE_BYTES_LOW + ENVELOPE_BYTES_MAX + FRAME_OVERHEAD_BYTES <= SEND_QUEUE_BYTES_MAX
);
// An id is looked up in the database from the moment at which the log may have forgotten it, even
// one whose time was as far ahead as is allowed; or it could pass between the two.
const _: () = assert!(ID_LATE_MS + ID_AHEAD_MS_MAX <= ID_MEMORY_MS);
// A room's head must outlive the ids of its entries, or a duplicate would hydrate a new head first.
const _: () = assert!(ID_MEMORY_MS < ROOM_MEMORY_MS);
// A room's memory must be able to serve the largest page.
const _: () = assert!(PAGE_ROWS_MAX as usize <= RECENT_ENTRIES_MAX);
// A token fits into the first frame, whatever stands around it.
const _: () = assert!(TOKEN_BYTES_MAX + 1024 <= UNPROVEN_FRAME_BYTES_MAX);
// No session token outlives the memory of its revocation.
const _: () = assert!(SESSION_MS_MAX < REVOCATION_MEMORY_MS);
// Whatever a node has in memory, the ring has too: a room that resynchronises finds its place.
const _: () = assert!(RECENT_ENTRIES_MAX <= RING_ENTRIES && RECENT_BYTES_MAX <= RING_BYTES_MAX);
const _: () = assert!(STREAMS_PER_USER_MAX < STREAMS_PER_ROOM_MAX);
// All of a room's are found at once.
const _: () = assert!(STREAMS_PER_ROOM_MAX <= STREAMS_SILENT_MAX);
// One reading gets on, however large the entries are, and a room's memory takes few of them.
const _: () =
    assert!(ENVELOPE_BYTES_MAX < LOG_READ_BYTES_MAX && LOG_READ_BYTES_MAX <= RING_BYTES_MAX);
// The largest entry fits into the log and into a transaction of the worker.
const _: () = assert!(2 * ENVELOPE_BYTES_MAX < LOG_BYTES_MAX);
// An answer is closed before Redis forgets it.
const _: () = assert!(2 * STREAM_TIMEOUT_MS_MAX < STREAM_KEPT_MS);
// As long as an end may be offered again, it is known whether it was too late.
const _: () = assert!(ID_MEMORY_MS as u64 <= STREAM_MEMORY_MS);
// Whoever is listed has to be remembered.
const _: () = assert!(RECEIPTS_LISTED_MAX <= RECEIPTS_REMEMBERED_MAX);
// A renewal may fail once, and the next still come in time.
const _: () = assert!(2 * LEASE_RENEW_MS < LEASE_MS);
// What is promised: the people of a node that died are gone within 10 s, with a second to spare
// for the machine.
const _: () = assert!(LEASE_MS + LEASE_LOOK_MS + PRESENCE_GATHER_MS + 1_000 < 10_000);
const _: () = assert!(PRESENCE_LISTED_AGAIN < PRESENCE_LISTED_MAX);
// And a typing mark within 6 s of its last event.
const _: () = assert!(TYPING_STEP_MS < TYPING_MS && TYPING_MS + PRESENCE_GATHER_MS < 6_000);
