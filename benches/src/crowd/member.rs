//! One client, and one room.

use crate::dialect::Cursor;

/// How far a client has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not connected.
    Away,
    /// Connecting, until the server's first word.
    Connecting,
    /// Has asked to join.
    Joining,
    /// In its room.
    Joined,
}

/// One client; it is in one room, and on one connection.
#[derive(Debug)]
pub struct Member {
    /// The number of its room.
    pub room: u32,
    pub(super) phase: Phase,
    /// When it began to connect.
    pub(super) began: u64,
    /// Where it stands, once a scenario has noted it.
    pub(super) cursor: Option<Cursor>,
    pub(super) is_assistant: bool,
}

/// One room.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) name: String,
    pub(super) members: Vec<usize>,
    pub(super) sent: Vec<Sent>,
}

/// One message that was sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    /// When it should have been sent.
    pub(super) due: u64,
    pub(super) sender: usize,
    pub(super) is_acked: bool,
    /// Every member has it.
    pub(super) is_delivered: bool,
}
