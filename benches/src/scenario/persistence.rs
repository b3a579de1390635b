//! How long it takes until what was answered is in the database, as its sender hears it.

use crate::clock;
use crate::crowd::Crowd;
use crate::latency::Latencies;
use std::collections::VecDeque;

/// What each member waits for.
#[derive(Debug, Default)]
pub(super) struct Persistence {
    members: Vec<Waiting>,
    /// From the answer to the word that it is in the database.
    pub(super) latencies: Latencies,
    /// What is answered and not there yet.
    pub(super) open: u64,
    /// What is there.
    pub(super) done: u64,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Places in the room's order, and when the answer came.
    answered: VecDeque<(u64, u64)>,
    up_to: u64,
}

impl Persistence {
    pub(super) fn new(members: usize) -> Persistence {
        let members = (0..members).map(|_| Waiting::default()).collect();
        Persistence { members, ..Persistence::default() }
    }

    /// A message was answered.
    pub(super) fn answered(&mut self, member: usize, seq: u64, is_persisted: bool) {
        let waiting = &mut self.members[member];
        // The word may come before the answer.
        if is_persisted || seq <= waiting.up_to {
            self.latencies.record(0);
            self.done += 1;
        } else {
            waiting.answered.push_back((seq, clock::now()));
            self.open += 1;
        }
    }

    /// All of the member's room up to a place is in the database.
    pub(super) fn persisted(&mut self, member: usize, seq: u64) {
        let waiting = &mut self.members[member];
        waiting.up_to = waiting.up_to.max(seq);
        while let Some((_, at)) = waiting.answered.pop_front_if(|(place, _)| *place <= seq) {
            self.latencies.record(clock::now() - at);
            self.open -= 1;
            self.done += 1;
        }
    }

    /// What never came is a fault.
    pub(super) fn check(&self, crowd: &mut Crowd) {
        if self.open > 0 {
            let open = self.open;
            crowd.ledger.fault(format!("{open} messages were answered and never persisted"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_open_from_its_answer_until_a_place_not_before_its_own() {
        let mut persistence = Persistence::new(2);
        persistence.answered(0, 5, false);
        persistence.answered(0, 7, false);
        persistence.answered(1, 6, true);
        assert_eq!((persistence.open, persistence.done), (2, 1));
        persistence.persisted(0, 6);
        assert_eq!((persistence.open, persistence.done), (1, 2));
        persistence.persisted(1, 9);
        assert_eq!(persistence.open, 1, "it is another member's");
        persistence.persisted(0, 7);
        assert_eq!((persistence.open, persistence.done), (0, 3));
        persistence.answered(0, 7, false);
        assert_eq!(persistence.open, 0, "the word came before the answer");
    }
}
