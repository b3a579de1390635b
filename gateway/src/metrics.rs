//! Metrics of a gateway. Labels come from closed lists only; never a room, a user or a connection.

use shared::contract::refusal::CloseReason;

use crate::config::RateClass;

/// Seconds of an append: from memory to a database that struggles.
const APPEND_SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

shared::metrics! {
    /// Counts of one node.
    pub(crate) struct Metrics, prefix "roomcast_" {
        /// Connections upgraded.
        connections_opened_total: counter,
        /// Connections ended, by the reason the server saw.
        connections_closed_total: counter_by(reason: CloseReason),
        /// Handshakes that were answered with an error.
        handshakes_refused_total: counter,
        /// Commands read, whatever became of them.
        commands_total: counter,
        /// Commands that were refused.
        refusals_total: counter,
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
        append_seconds: histogram(APPEND_SECONDS),
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
