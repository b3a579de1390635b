//! A limit within the tests, which can be told to do what must never be.

use super::*;

/// What is done with one message in thirty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Harm {
    /// One member does not get it.
    Lose,
    /// One member gets it twice.
    Double,
    /// One member gets it after the next one.
    Swap,
}

impl Limit {
    /// Whether it was this message's turn, which has been carried in the wrong way then.
    pub(super) fn do_harm(&mut self, room: usize, frame: &[u8]) -> bool {
        let Some(harm) = self.harm else { return false };
        let (members, count) = self.members[room].clone();
        let turn = count % 30;
        let first = members[0];
        match (harm, turn) {
            (Harm::Lose, 7) => {}
            (Harm::Double, 7) => {
                self.say_frame(first, frame);
                self.say_frame(first, frame);
            }
            (Harm::Swap, 7) => {
                // Kept until the next one has gone.
                self.spare.push(frame.to_vec());
            }
            (Harm::Swap, 8) => {
                let late = self.spare.pop().unwrap_or_default();
                self.say_frame(first, frame);
                self.say_frame(first, &late);
            }
            (_, _) => return false,
        }
        members[1..].iter().for_each(|member| self.say_frame(*member, frame));
        true
    }
}

/// Serves on a free port, for as long as the tests run.
pub(crate) fn serve_in_thread(mode: Mode, harm: Option<Harm>) -> SocketAddr {
    let mut limit = Limit::new(0, mode).unwrap();
    limit.harm = harm;
    let address = limit.listener.local_addr().unwrap();
    std::thread::spawn(move || limit.run());
    address
}
