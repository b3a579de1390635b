//! What is counted while a scenario is measured.

use crate::clock;
use crate::latency::Latencies;

/// Counts and latencies since a moment.
#[derive(Debug, Default)]
pub struct Tally {
    /// Since when; messages that were due before are not in the latencies.
    pub since: u64,
    /// Messages that were sent.
    pub sent: u64,
    /// Messages that were answered.
    pub acked: u64,
    /// Messages that came, to whichever member.
    pub delivered: u64,
    /// Messages that stood in the replies of joins.
    pub replayed: u64,
    /// Refusals.
    pub refused: u64,
    /// Connections that were lost without being cut.
    pub lost: u64,
    /// From the time at which a message was due to each of its deliveries.
    pub delivery: Latencies,
    /// From that time to its answer.
    pub ack: Latencies,
    /// From connecting to being in the room.
    pub join: Latencies,
}

impl Tally {
    /// Begins anew.
    pub fn reset(&mut self) {
        for latencies in [&mut self.delivery, &mut self.ack, &mut self.join] {
            latencies.clear();
        }
        self.since = clock::now();
        (self.sent, self.acked, self.delivered, self.replayed) = (0, 0, 0, 0);
        (self.refused, self.lost) = (0, 0);
    }
}
