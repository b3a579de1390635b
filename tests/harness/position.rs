//! A place in a room's order, as it stands on the wire.

use serde::{Deserialize, Serialize};
use std::fmt;

/// `(epoch, seq)`, compared in that order.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Rises when the log was lost or claimed anew.
    pub epoch: u64,
    /// Dense within an epoch; 0 only as the head of an empty room.
    pub seq: u64,
}

impl Position {
    /// The position of `seq` in `epoch`.
    pub fn new(epoch: u64, seq: u64) -> Position {
        Position { epoch, seq }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}, {})", self.epoch, self.seq)
    }
}
