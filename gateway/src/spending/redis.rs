//! Spending turns among nodes: a Redis key per user.

use std::time::Duration;

use redis::Script;
use shared::contract::id::UserId;
use shared::contract::keys;
use shared::contract::limits::SPENDING_TURN_MS;
use shared::log::redis::connection::RedisConnection;
use tracing::debug;
use uuid::Uuid;

/// Pauses between asking for a turn that another node has, at least; as much again by chance.
const PAUSE_MS: u64 = 5;

/// Gives a turn back if it is still one's own.
const GIVE_BACK: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

/// The turns of the fleet.
#[derive(Clone, Debug)]
pub(crate) struct RedisTurns {
    connection: RedisConnection,
}

/// A turn among the nodes; given back when it is dropped.
#[derive(Debug)]
pub(super) struct RedisTurn {
    connection: RedisConnection,
    key: String,
    token: String,
}

impl RedisTurns {
    pub(crate) fn new(connection: RedisConnection) -> RedisTurns {
        RedisTurns { connection }
    }

    /// Waits for a turn as long as the caller does; `None` when Redis does not answer.
    pub(super) async fn take(&self, user: &UserId) -> Option<RedisTurn> {
        let (key, token) = (keys::spending(user), Uuid::new_v4().to_string());
        // From here on it is given back, even where its answer is not waited for.
        let turn = RedisTurn { connection: self.connection.clone(), key, token };
        loop {
            let mut pipe = redis::pipe();
            pipe.cmd("SET").arg(&turn.key).arg(&turn.token).arg("NX");
            pipe.arg("PX").arg(SPENDING_TURN_MS);
            match self.connection.pipeline::<(Option<String>,)>(&pipe).await {
                Ok((Some(_),)) => return Some(turn),
                Ok((None,)) => {
                    let chance = Uuid::new_v4().as_u64_pair().0 % PAUSE_MS;
                    tokio::time::sleep(Duration::from_millis(PAUSE_MS + chance)).await;
                }
                Err(error) => {
                    debug!(error = %error, "turn to spend credits cannot be taken");
                    return None;
                }
            }
        }
    }
}

impl Drop for RedisTurn {
    fn drop(&mut self) {
        let (connection, key) = (self.connection.clone(), std::mem::take(&mut self.key));
        let token = std::mem::take(&mut self.token);
        tokio::spawn(async move {
            let script = Script::new(GIVE_BACK);
            let mut call = script.prepare_invoke();
            call.key(key).arg(token);
            // Where that fails it ends by itself.
            if let Err(error) = connection.script::<i64>(&call).await {
                debug!(error = %error, "turn to spend credits is left to end by itself");
            }
        });
    }
}
