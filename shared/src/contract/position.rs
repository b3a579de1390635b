//! The position of an entry in its room's order.

use std::fmt;

use serde::{Deserialize, Serialize};

/// `(epoch, seq)`: positions of a room only grow and none is used twice; `seq` is dense within an
/// epoch. An empty room's head is `seq` 0.
///
/// Both parts stay below 2^53, so that JavaScript reads them exactly.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Minted by the database whenever the log lost its memory, or began.
    pub epoch: u64,
    /// Counts the room's entries.
    pub seq: u64,
}

impl Position {
    /// Before everything.
    pub const ZERO: Position = Position { epoch: 0, seq: 0 };

    /// After everything; both parts are the largest integer that JavaScript holds exactly.
    pub const MAX: Position = Position { epoch: (1 << 53) - 1, seq: (1 << 53) - 1 };

    /// The position at `seq` of `epoch`.
    #[must_use]
    pub const fn new(epoch: u64, seq: u64) -> Position {
        Position { epoch, seq }
    }

    /// The next place in the same epoch.
    #[must_use]
    pub const fn next(self) -> Position {
        Position { epoch: self.epoch, seq: self.seq + 1 }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.seq)
    }
}
