//! What a join needs to know first, and where the page of its reply comes from.

use std::sync::Arc;
use std::time::Duration;

use shared::contract::id::{RoomId, UserId};
use shared::contract::limits::UNREAD_MAX;
use shared::contract::position::Position;
use shared::process::error_chain::error_chain;
use shared::store::{MemberRole, StoreError};
use tokio::time::Instant;
use tracing::debug;

use super::entry::Cursor;
use super::history::HistoryError;
use super::room::{Effects, JoinRetry, Joiner, Membership, ReadProgress, Room};
use super::{Deps, Hub, READING_PATIENCE, Resumption, sync};

/// Tries of a join whose room's memory moves on under it.
const JOIN_TRIES_MAX: usize = 8;

/// How long a join waits for the room to hear of what it was read ahead.
const AHEAD_PAUSE: Duration = Duration::from_millis(20);

/// Pauses after which the room is taken to have missed it.
const AHEAD_PAUSES_MAX: usize = 25;

/// How often a join waits so long for the first reading of its room, where that fails: a log that
/// goes is soon known to be away, and the database is read then.
const SETTLE_WAITS_MAX: usize = 6;
const SETTLE_PATIENCE: Duration = Duration::from_millis(500);

/// How long a join waits for its room to be where the log is, before the database is asked whether
/// somebody was removed meanwhile.
const CURRENT_PATIENCE: Duration = Duration::from_millis(500);
const CURRENT_PAUSE: Duration = Duration::from_millis(10);

/// Why a room is not entered.
#[derive(Debug, thiserror::Error)]
pub(super) enum JoinError {
    #[error(transparent)]
    Source(#[from] HistoryError),
    #[error("whether one belongs to the room again is not known")]
    Member(#[from] StoreError),
    #[error("removed from the room")]
    Removed,
}

impl Hub {
    pub(super) async fn try_join(
        &self,
        id: &RoomId,
        mut joiner: Joiner<'_>,
        since: Option<Cursor>,
    ) -> Result<Membership, JoinError> {
        let (mut tries, mut pauses, mut waits) = (0, 0, 0);
        while tries < JOIN_TRIES_MAX {
            let room = self.room(id);
            while tokio::time::timeout(SETTLE_PATIENCE, room.settled()).await.is_err() {
                // One that cannot be subscribed fails as well, though it is not known yet.
                let Deps { broker, history, .. } = &*self.parts;
                waits += 1;
                let is_failing =
                    || room.read(|state| state.failing) || !broker.hears() || history.log.is_away();
                if waits >= SETTLE_WAITS_MAX && is_failing() {
                    return Err(HistoryError::Unsettled.into());
                }
            }
            self.refuse_removed(&room, &joiner.user).await?;
            let erasures = room.read(|state| state.erasures);
            joiner.progress = self.progress(&room, &joiner.user).await;
            match self.attempt(&room, &joiner, since.as_ref()).await? {
                Ok(membership) => {
                    room.change(|state| state.recheck(joiner.member, erasures));
                    return Ok(membership);
                }
                Err(JoinRetry::Retired | JoinRetry::Memory) => tries += 1,
                Err(JoinRetry::Ahead) => {
                    pauses += 1;
                    tokio::time::sleep(AHEAD_PAUSE).await;
                    if pauses % AHEAD_PAUSES_MAX == 0 {
                        sync::resync(&room);
                    }
                }
                Err(JoinRetry::Removed(at)) => {
                    let member = self.parts.history.store.member(id, &joiner.user).await?;
                    if member == Some(MemberRole::Removed) {
                        return Err(JoinError::Removed);
                    }
                    room.change(|state| state.readmit(&joiner.user, at));
                }
            }
        }
        Err(HistoryError::Unsettled.into())
    }

    /// A room that is where the log is knows who was removed. Of any other the database has to say
    /// that this one was not.
    async fn refuse_removed(&self, room: &Room, user: &UserId) -> Result<(), JoinError> {
        let began = Instant::now();
        while !room.read(|state| state.is_live()) || !self.parts.broker.hears() {
            if began.elapsed() < CURRENT_PATIENCE {
                tokio::time::sleep(CURRENT_PAUSE).await;
            } else if self.parts.history.store.member(&room.id, user).await?
                == Some(MemberRole::Removed)
            {
                return Err(JoinError::Removed);
            } else {
                return Ok(());
            }
        }
        Ok(())
    }

    /// What the database has to say on what somebody has not read; a join does without it where
    /// that is not found out soon.
    async fn progress(&self, room: &Room, user: &UserId) -> ReadProgress {
        let store = &self.parts.history.store;
        let (floor, (own, known)) = room.read(|state| (state.cache.floor(), state.receipt(user)));
        let asked = async {
            let own = if known { own } else { store.receipt(&room.id, user).await? };
            let after = own.as_ref().map_or(Position::ZERO, |mark| mark.position);
            let unread_below = match after < floor {
                true => store.unread(&room.id, user, (after, floor), UNREAD_MAX).await?,
                false => 0,
            };
            Ok::<_, StoreError>(ReadProgress { own, unread_below })
        };
        match tokio::time::timeout(READING_PATIENCE, asked).await {
            Ok(Ok(progress)) => progress,
            Ok(Err(error)) => {
                debug!(room.id = %room.id, error = error_chain(&error),
                    "unread messages are counted in memory");
                ReadProgress::default()
            }
            Err(_) => ReadProgress::default(),
        }
    }

    async fn attempt(
        &self,
        room: &Arc<Room>,
        joiner: &Joiner<'_>,
        since: Option<&Cursor>,
    ) -> Result<Result<Membership, JoinRetry>, HistoryError> {
        let history = &self.parts.history;
        let how = match since {
            None => Resumption::Fresh,
            Some(cursor) if room.read(|state| state.knows(cursor)) => {
                return Ok(start(room, room.join_after(joiner, cursor, None)));
            }
            Some(cursor) => {
                if let Some(epoch) = history.can_resume(&room.id, cursor).await? {
                    let from = cursor.position;
                    let page = history.after(&room.id, from, from, joiner.limit).await?;
                    if !page.entries.iter().any(|entry| entry.ends_what_was()) {
                        let read = Some((&*page, epoch.min(page.epoch)));
                        return Ok(start(room, room.join_after(joiner, cursor, read)));
                    }
                }
                Resumption::Reset
            }
        };
        match start(room, room.join_latest(joiner, how, None)) {
            Err(JoinRetry::Memory) => {}
            other => return Ok(other),
        }
        let floor = room.read(|state| state.cache.floor());
        let older = history.messages_before(&room.id, floor.next(), joiner.limit).await?;
        Ok(start(room, room.join_latest(joiner, how, Some((floor, older)))))
    }
}

/// Starts what a join calls for.
fn start(
    room: &Arc<Room>,
    joined: Result<(Membership, Effects), JoinRetry>,
) -> Result<Membership, JoinRetry> {
    joined.map(|(membership, effects)| {
        sync::start(room, effects);
        membership
    })
}
