//! Metrics of a gateway. Labels come from closed lists only; never a room, a user or a connection.

use hyper::StatusCode;
use shared::contract::refusal::{CloseReason, RefusalCode};
use shared::process::telemetry::metrics::{Label, SECONDS};

use crate::config::RateClass;

/// Why a client is sent elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReconnectReason {
    /// The node leaves.
    Drain,
    /// It has far more clients than the others.
    Rebalance,
}

impl Label for ReconnectReason {
    const ALL: &'static [ReconnectReason] = &[ReconnectReason::Drain, ReconnectReason::Rebalance];

    fn label(&self) -> &'static str {
        match self {
            ReconnectReason::Drain => "drain",
            ReconnectReason::Rebalance => "rebalance",
        }
    }
}

/// Why a handshake is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandshakeFault {
    /// It is none, or from a page that may not open one.
    Invalid,
    /// The proof of who is asking does not hold.
    Unauthenticated,
    /// One address has too many.
    TooMany,
    /// The node is full, leaves, or takes no more within this second; or it cannot be checked who
    /// is asking.
    Unavailable,
}

impl HandshakeFault {
    /// By what is answered.
    pub(crate) fn of(status: StatusCode) -> HandshakeFault {
        match status {
            StatusCode::UNAUTHORIZED => HandshakeFault::Unauthenticated,
            StatusCode::TOO_MANY_REQUESTS => HandshakeFault::TooMany,
            StatusCode::SERVICE_UNAVAILABLE => HandshakeFault::Unavailable,
            _ => HandshakeFault::Invalid,
        }
    }
}

impl Label for HandshakeFault {
    const ALL: &'static [HandshakeFault] = &[
        HandshakeFault::Invalid,
        HandshakeFault::Unauthenticated,
        HandshakeFault::TooMany,
        HandshakeFault::Unavailable,
    ];

    fn label(&self) -> &'static str {
        match self {
            HandshakeFault::Invalid => "invalid",
            HandshakeFault::Unauthenticated => "unauthenticated",
            HandshakeFault::TooMany => "too_many",
            HandshakeFault::Unavailable => "unavailable",
        }
    }
}

shared::metrics! {
    /// Counts of one node.
    pub(crate) struct Metrics, prefix "roomcast_" {
        /// Connections upgraded.
        connections_opened_total: counter,
        /// Connections ended, by the reason the server saw.
        connections_closed_total: counter_by(reason: CloseReason),
        /// Connections that are open.
        connections: gauge,
        /// Connections that there may be.
        connections_max: gauge,
        /// Whether the node leaves (1) or not (0).
        draining: gauge,
        /// Clients that were sent elsewhere, by the reason.
        reconnects_advised_total: counter_by(reason: ReconnectReason),
        /// Handshakes that were answered with an error, by what is at fault.
        handshakes_refused_total: counter_by(reason: HandshakeFault),
        /// Times that the key set of whoever signs tokens could not be read.
        key_set_failures_total: counter,
        /// Commands read, whatever became of them.
        commands_total: counter,
        /// Commands that were refused, by the code of the refusal.
        refusals_total: counter_by(code: RefusalCode),
        /// Requests to the API.
        api_requests_total: counter,
        /// Requests to the API that were answered with a problem.
        api_refusals_total: counter,
        /// Commands that were refused because their sender asks too often, by what was asked.
        rate_limited_total: counter_by(allowance: RateClass),
        /// Users blocked, on this node's word or another's.
        blocks_total: counter,
        /// Commands that were counted on this node alone, because Redis did not answer.
        counted_alone_total: counter,
        /// Messages that were accepted for the first time.
        messages_in_total: counter,
        /// Edits and deletes that were accepted for the first time.
        changes_in_total: counter,
        /// Edits given up because their message did not come back after the log had lost it.
        orphaned_edits_total: counter,
        /// Messages that were offered again and stood already.
        duplicates_total: counter,
        /// Movements of credits on their own that were accepted for the first time.
        credits_in_total: counter,
        /// Accepted entries offered again because the log's epoch rose.
        offered_again_total: counter,
        /// Accepted entries that are not known to be in the database.
        retained_entries: gauge,
        /// Bytes of those, and of what waits for the log.
        retained_bytes: gauge,
        /// Bytes that those may be; beyond it senders are told `backpressure`.
        retained_bytes_max: gauge,
        /// Accepted entries in the node's journal, most of them because Redis takes nothing.
        journal_entries: gauge,
        /// Bytes of those, about.
        journal_bytes: gauge,
        /// Bytes that those may be; beyond it senders are told `backpressure`.
        journal_bytes_max: gauge,
        /// Age of the oldest of them, in seconds; 0 where there is none.
        journal_oldest_seconds: gauge,
        /// Entries that went into the journal because Redis took nothing.
        journaled_total: counter,
        /// Entries of the journal that Redis has taken.
        journal_replayed_total: counter,
        /// Entries that the journal did not take.
        journal_refused_total: counter,
        /// Frames written to sockets.
        frames_out_total: counter,
        /// Logged events handed to members.
        deliveries_total: counter,
        /// Answers that began to be written bit by bit.
        streams_begun_total: counter,
        /// Answers that were ended and stand as messages.
        streams_ended_total: counter,
        /// Answers that were closed because their producer had fallen silent.
        streams_aborted_total: counter,
        /// Bytes of parts of answers handed to members.
        stream_bytes_out_total: counter,
        /// Joins that went on where the client had been.
        resumes_total: counter,
        /// Clients that were told to read a room anew.
        resets_total: counter,
        /// Memberships that ended because their user was removed from the room.
        kicked_total: counter,
        /// Publications of another deployment that came in and were dropped.
        foreign_publications_total: counter,
        /// Times a room missed a publication and read it back.
        gaps_total: counter,
        /// Times a member fell behind its send queue.
        lagging_total: counter,
        /// Seconds from a message's arrival in line to its answer.
        append_seconds: histogram(SECONDS),
        /// Seconds from reading a message, an edit or a delete to its acknowledgement.
        ack_seconds: histogram(SECONDS),
        /// Seconds from the acceptance of an entry to its handing over to members on this node.
        delivery_seconds: histogram(SECONDS),
        /// Seconds from reading a join to its reply.
        join_seconds: histogram(SECONDS),
        /// Bytes that wait for sockets.
        send_queue_bytes: gauge,
        /// Rooms with members on this node, or with some a moment ago.
        rooms: gauge,
        /// People present through this node, each counted in each of their rooms.
        presence_people: gauge,
        /// Changes of somebody's presence that members of a room were told.
        presence_changes_total: counter,
        /// Nodes that died and after which this one cleaned up.
        nodes_reaped_total: counter,
    }
}
