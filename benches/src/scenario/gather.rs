//! A crowd gathers: everybody connects, proves who they are, and joins.

use crate::clock;
use crate::crowd::{Crowd, Play};
use crate::error::LoadError;

/// How many connect at a time where a scenario does not say.
const AT_A_TIME: usize = 64;
/// After so long without anybody new, gathering has failed.
const PATIENCE: u64 = 30 * clock::SECOND;
/// How long nothing may come, and for how long it is waited for, before a crowd counts as quiet.
const QUIET: u64 = clock::SECOND;
const QUIET_WITHIN: u64 = 15 * clock::SECOND;

/// Connects the next as one has joined.
#[derive(Debug)]
pub(super) struct Gathering {
    next: usize,
    last: usize,
    /// When somebody joined last.
    heard_at: u64,
    failed: Option<LoadError>,
}

impl Gathering {
    pub(super) fn new(from: usize, to: usize) -> Gathering {
        Gathering { next: from, last: to, heard_at: clock::now(), failed: None }
    }

    /// Begins with so many at a time.
    pub(super) fn begin(&mut self, crowd: &mut Crowd, at_a_time: usize) {
        (0..at_a_time).for_each(|_| self.connect_next(crowd));
    }

    fn connect_next(&mut self, crowd: &mut Crowd) {
        if self.next < self.last && self.failed.is_none() {
            self.failed = crowd.connect(self.next).err();
            self.next += 1;
        }
    }

    fn is_stuck(&self) -> bool {
        clock::now() > self.heard_at + PATIENCE
    }
}

impl Play for Gathering {
    fn joined(&mut self, crowd: &mut Crowd, _member: usize, _is_recovered: bool) {
        self.heard_at = clock::now();
        self.connect_next(crowd);
    }

    fn is_over(&self, crowd: &Crowd) -> bool {
        let is_full = self.next == self.last && crowd.joined_count() == crowd.member_count();
        is_full || self.failed.is_some() || crowd.tally.lost > 0 || self.is_stuck()
    }
}

/// Fills rooms of equal size, and waits until all are in and what came of that has been told.
pub(super) fn gather(crowd: &mut Crowd, rooms: u32, members: u32) -> Result<(), LoadError> {
    gather_with(crowd, rooms, members, |_| {})
}

/// The same, where something is to be said of members before they connect.
pub(super) fn gather_with(
    crowd: &mut Crowd,
    rooms: u32,
    members: u32,
    before: impl FnOnce(&mut Crowd),
) -> Result<(), LoadError> {
    for _ in 0..rooms {
        crowd.add_room();
    }
    for member in 0..members {
        crowd.add_member(member % rooms);
    }
    before(crowd);
    enter(crowd, AT_A_TIME)?;
    settle(crowd)
}

/// Everybody connects, so many at a time.
pub(super) fn enter(crowd: &mut Crowd, at_a_time: usize) -> Result<(), LoadError> {
    let mut gathering = Gathering::new(0, crowd.member_count());
    gathering.begin(crowd, at_a_time);
    crowd.run(u64::MAX, &mut gathering)?;
    if let Some(error) = gathering.failed {
        return Err(error);
    }
    if crowd.joined_count() == crowd.member_count() {
        return Ok(());
    }
    let stuck = || format!("nobody has joined for {} s", PATIENCE / clock::SECOND);
    let why = crowd.ledger.first_fault().unwrap_or_else(stuck);
    Err(LoadError::Absent { joined: crowd.joined_count(), members: crowd.member_count(), why })
}

/// Waits until nothing has come for a second, or for a while at most.
pub(super) fn settle(crowd: &mut Crowd) -> Result<(), LoadError> {
    let until = clock::now() + QUIET_WITHIN;
    loop {
        let before = crowd.traffic().frames;
        crowd.run(clock::now() + QUIET, &mut Silence)?;
        if crowd.traffic().frames == before || clock::now() > until {
            return Ok(());
        }
    }
}

/// A play in which nothing is done: for waiting.
#[derive(Debug)]
pub(super) struct Silence;

impl Play for Silence {}
