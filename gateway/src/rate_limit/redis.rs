//! The fleet's counts, in Redis: a number that expires for each user and allowance.

use redis::{RedisError, Script};
use shared::contract::id::UserId;
use shared::contract::keys;
use shared::log::redis::connection::RedisConnection;
use shared::process::telemetry::metrics::Label;

use crate::config::Allowance;

/// The counts of all nodes together.
#[derive(Debug)]
pub(crate) struct RedisCounts {
    connection: RedisConnection,
    take: Script,
    refuse: Script,
}

/// What the fleet gives of an allowance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Given {
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
        allowance: Allowance,
        (wanted, limit): (u32, u32),
        window_ms: i64,
    ) -> Result<Given, RedisError> {
        let mut call = self.take.prepare_invoke();
        call.key(keys::rate(user, allowance.label())).arg(wanted).arg(limit).arg(window_ms);
        let (count, rest_ms, is_first) = self.connection.script(&call).await?;
        Ok(Given { count, rest_ms, is_first })
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

    /// For how long a user is blocked still, in milliseconds.
    pub(super) async fn blocked(&self, user: &UserId) -> Result<Option<i64>, RedisError> {
        let mut pipe = redis::pipe();
        pipe.cmd("PTTL").arg(keys::block(user));
        let (rest_ms,): (i64,) = self.connection.pipeline(&pipe).await?;
        Ok((rest_ms > 0).then_some(rest_ms))
    }
}
