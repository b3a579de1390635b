//! Rate limit windows of the fleet: a Redis counter with an expiry for each user and class.

use redis::{RedisError, Script};
use shared::contract::id::{RoomId, UserId};
use shared::contract::keys;
use shared::log::redis::connection::RedisConnection;
use shared::process::telemetry::metrics::Label;

use super::usual::{FLEET_MEMORY_MS, ROOMS_MAX};
use crate::config::RateClass;

/// The counts of all nodes together.
#[derive(Debug)]
pub(crate) struct RedisCounts {
    connection: RedisConnection,
    take: Script,
    refuse: Script,
}

/// What the fleet gives of an allowance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Portion {
    /// How many uses; 0 when there are none left.
    pub(super) count: u32,
    /// Until the window ends, in milliseconds.
    pub(super) rest_ms: i64,
    /// The window begins with this.
    pub(super) is_first: bool,
}

/// What the fleet knows of a user who was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// For how long the user is blocked, in milliseconds, if so.
    pub(super) rest_ms: Option<i64>,
    /// From now on.
    pub(super) is_new: bool,
}

impl RedisCounts {
    pub(crate) fn new(connection: RedisConnection) -> RedisCounts {
        let take = Script::new(include_str!("redis/take.lua"));
        let refuse = Script::new(include_str!("redis/refuse.lua"));
        RedisCounts { connection, take, refuse }
    }

    /// The way to Redis.
    pub(crate) fn connection(&self) -> &RedisConnection {
        &self.connection
    }

    /// Takes at most `wanted` uses, of `limit` in a window.
    pub(super) async fn take(
        &self,
        user: &UserId,
        class: RateClass,
        (wanted, limit): (u32, u32),
        window_ms: i64,
    ) -> Result<Portion, RedisError> {
        let mut call = self.take.prepare_invoke();
        call.key(keys::rate(user, class.label())).arg(wanted).arg(limit).arg(window_ms);
        let (count, rest_ms, is_first) = self.connection.script(&call).await?;
        Ok(Portion { count, rest_ms, is_first })
    }

    /// Counts refusals of a user, and blocks them at the limit.
    pub(super) async fn refused(
        &self,
        user: &UserId,
        count: u32,
        limit: u32,
        (window_ms, block_ms): (i64, i64),
    ) -> Result<Block, RedisError> {
        let mut call = self.refuse.prepare_invoke();
        call.key(keys::refusals(user)).key(keys::block(user));
        call.arg(count).arg(window_ms).arg(limit).arg(block_ms);
        let (rest_ms, is_new): (i64, bool) = self.connection.script(&call).await?;
        Ok(Block { rest_ms: (rest_ms > 0).then_some(rest_ms), is_new })
    }

    /// Whether a user has been in a room lately.
    pub(super) async fn is_usual(&self, user: &UserId, room: &RoomId) -> Result<bool, RedisError> {
        let mut pipe = redis::pipe();
        pipe.cmd("ZSCORE").arg(keys::usual_rooms(user)).arg(room.as_str());
        let (score,): (Option<f64>,) = self.connection.pipeline(&pipe).await?;
        Ok(score.is_some())
    }

    /// Remembers that a user is in a room; only the latest rooms are kept.
    pub(super) async fn note_usual(
        &self,
        user: &UserId,
        room: &RoomId,
        now_ms: i64,
    ) -> Result<(), RedisError> {
        let key = keys::usual_rooms(user);
        let mut pipe = redis::pipe();
        pipe.cmd("ZADD").arg(&key).arg(now_ms).arg(room.as_str()).ignore();
        let oldest = -i64::try_from(ROOMS_MAX).unwrap_or(i64::MAX) - 1;
        pipe.cmd("ZREMRANGEBYRANK").arg(&key).arg(0).arg(oldest).ignore();
        pipe.cmd("PEXPIRE").arg(&key).arg(FLEET_MEMORY_MS).ignore();
        self.connection.pipeline(&pipe).await
    }

    /// For how long a user is blocked still, in milliseconds.
    pub(super) async fn blocked(&self, user: &UserId) -> Result<Option<i64>, RedisError> {
        let mut pipe = redis::pipe();
        pipe.cmd("PTTL").arg(keys::block(user));
        let (rest_ms,): (i64,) = self.connection.pipeline(&pipe).await?;
        Ok((rest_ms > 0).then_some(rest_ms))
    }
}
