//! Presence in Redis: a hash of people per room, a sorted set of leases, and per incarnation a set
//! of the rooms in which it has announced anybody.

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;
use redis::{Pipeline, RedisError, Script};
use shared::contract::id::{RoomId, UserId};
use shared::contract::keys;
use shared::contract::limits::{LEASE_MS, PRESENCE_BATCH_MAX, PRESENCE_LINGER_MS, REAP_MS};
use shared::contract::signal::PresenceState;
use shared::log::redis::connection::{RedisConnection, RedisFailure};
use tracing::warn;
use uuid::Uuid;

use super::{Leases, Presence, PresenceChange, PresenceEntry, PresenceError, Renewal};

/// How long the rooms of a run are kept without a renewal: longer than any cleaning up takes.
const ROOMS_MEMORY_MS: u64 = 60 * 60 * 1000;

/// Over the connection that everything else uses.
#[derive(Debug)]
pub struct RedisPresence {
    connection: RedisConnection,
    renew: Script,
}

impl From<RedisError> for PresenceError {
    fn from(error: RedisError) -> PresenceError {
        PresenceError(Box::new(RedisFailure::from(error)))
    }
}

/// Ids and incarnations have no white space.
fn field(user: &UserId, incarnation: Uuid) -> String {
    format!("{user} {incarnation}")
}

fn entry(field: &str, standing: &str) -> Option<PresenceEntry> {
    let (user, incarnation) = field.split_once(' ')?;
    Some(PresenceEntry {
        user: UserId::parse(user).ok()?,
        incarnation: incarnation.parse().ok()?,
        standing: serde_json::from_str::<PresenceState>(standing).ok()?,
    })
}

/// The time of `TIME` in milliseconds.
fn milliseconds((seconds, micros): (i64, i64)) -> i64 {
    seconds * 1000 + micros / 1000
}

impl RedisPresence {
    /// Over a connection.
    #[must_use]
    pub fn new(connection: RedisConnection) -> RedisPresence {
        RedisPresence { connection, renew: Script::new(include_str!("redis/renew.lua")) }
    }

    /// Nothing to send is no error here, as it is to the client library.
    async fn send(&self, pipe: &Pipeline) -> Result<(), RedisError> {
        if pipe.is_empty() {
            return Ok(());
        }
        self.connection.pipeline(pipe).await
    }

    /// What leads to the people of a run lasts as long as the run: one that says something after it
    /// was cleaned up has nobody who would do it again.
    async fn keep(&self, incarnation: Uuid) -> Result<(), RedisError> {
        let mut pipe = redis::pipe();
        pipe.cmd("PEXPIRE").arg(keys::rooms_of(incarnation)).arg(ROOMS_MEMORY_MS).ignore();
        self.send(&pipe).await
    }

    /// Whether its lease has lapsed at this moment. One that is not known was taken out before.
    async fn has_lapsed(&self, incarnation: Uuid) -> Result<bool, RedisError> {
        let mut pipe = redis::pipe();
        pipe.cmd("TIME").cmd("ZSCORE").arg(keys::LEASES).arg(incarnation.to_string());
        let (time, ends): ((i64, i64), Option<f64>) = self.connection.pipeline(&pipe).await?;
        // Milliseconds since 1970 are exact in a double.
        Ok(ends.is_some_and(|ends| ends < milliseconds(time) as f64))
    }

    /// The people first, then what leads to them, so that whoever takes over finds the rest.
    async fn take_out(&self, incarnation: Uuid) -> Result<(), RedisError> {
        let mut pipe = redis::pipe();
        pipe.cmd("SMEMBERS").arg(keys::rooms_of(incarnation));
        let (rooms,): (Vec<String>,) = self.connection.pipeline(&pipe).await?;
        let rooms: Vec<RoomId> = rooms.iter().filter_map(|room| RoomId::parse(room).ok()).collect();
        let suffix = format!(" {incarnation}");
        for rooms in rooms.chunks(PRESENCE_BATCH_MAX) {
            let mut pipe = redis::pipe();
            for room in rooms {
                pipe.cmd("HKEYS").arg(keys::presence(room));
            }
            let fields: Vec<Vec<String>> = self.connection.pipeline(&pipe).await?;
            let mut pipe = redis::pipe();
            for (room, fields) in rooms.iter().zip(&fields) {
                let gone: Vec<&String> = fields.iter().filter(|f| f.ends_with(&suffix)).collect();
                if !gone.is_empty() {
                    pipe.cmd("HDEL").arg(keys::presence(room)).arg(gone).ignore();
                }
            }
            self.send(&pipe).await?;
        }
        let mut pipe = redis::pipe();
        pipe.cmd("DEL").arg(keys::rooms_of(incarnation)).ignore();
        pipe.cmd("ZREM").arg(keys::LEASES).arg(incarnation.to_string()).ignore();
        pipe.cmd("HDEL").arg(keys::LOADS).arg(incarnation.to_string()).ignore();
        self.send(&pipe).await
    }
}

#[async_trait]
impl Presence for RedisPresence {
    async fn renew(&self, incarnation: Uuid, renewal: Renewal) -> Result<bool, PresenceError> {
        let (ms, has_to_stand) = match renewal {
            Renewal::First => (LEASE_MS, 0),
            Renewal::Again => (LEASE_MS, 1),
            Renewal::Last => (PRESENCE_LINGER_MS, 1),
        };
        let mut call = self.renew.key(keys::LEASES);
        call.arg(incarnation.to_string()).arg(ms).arg(has_to_stand);
        let holds: bool = self.connection.script(&call).await?;
        if holds {
            self.keep(incarnation).await?;
        }
        Ok(holds)
    }

    async fn leases(&self) -> Result<Leases, PresenceError> {
        let mut pipe = redis::pipe();
        pipe.cmd("TIME").cmd("ZRANGE").arg(keys::LEASES).arg(0).arg(-1).arg("WITHSCORES");
        let (time, ends): ((i64, i64), Vec<(String, f64)>) =
            self.connection.pipeline(&pipe).await?;
        let now_ms = milliseconds(time) as f64;
        let mut leases = Leases { living: BTreeSet::new(), lapsed: BTreeSet::new() };
        for (incarnation, ends) in ends {
            let Ok(incarnation) = incarnation.parse() else { continue };
            if ends < now_ms {
                leases.lapsed.insert(incarnation);
            } else {
                leases.living.insert(incarnation);
            }
        }
        Ok(leases)
    }

    async fn loads(&self, incarnation: Uuid, own: u64) -> Result<Vec<u64>, PresenceError> {
        let mut pipe = redis::pipe();
        pipe.cmd("HSET").arg(keys::LOADS).arg(incarnation.to_string()).arg(own).ignore();
        pipe.cmd("PEXPIRE").arg(keys::LOADS).arg(ROOMS_MEMORY_MS).ignore();
        pipe.cmd("HGETALL").arg(keys::LOADS);
        let (told,): (HashMap<String, u64>,) = self.connection.pipeline(&pipe).await?;
        let living = self.leases().await?.living;
        let holds = |run: &str| run.parse().is_ok_and(|run: Uuid| living.contains(&run));
        let (held, left): (Vec<_>, Vec<_>) = told.into_iter().partition(|(run, _)| holds(run));
        // One that slept past its lease says so once more after it was cleaned up.
        let mut pipe = redis::pipe();
        for (run, _) in &left {
            pipe.cmd("HDEL").arg(keys::LOADS).arg(run).ignore();
        }
        self.send(&pipe).await?;
        Ok(held.into_iter().map(|(_, load)| load).collect())
    }

    async fn announce(
        &self,
        incarnation: Uuid,
        changes: &[PresenceChange],
    ) -> Result<(), PresenceError> {
        let mut pipe = redis::pipe();
        let rooms = keys::rooms_of(incarnation);
        let mut announced = false;
        for PresenceChange { room, user, standing, last } in changes {
            let (key, field) = (keys::presence(room), field(user, incarnation));
            if let Some(standing) = standing {
                let json = serde_json::to_string(standing).map_err(|e| PresenceError(e.into()))?;
                // The way to it first: what nothing leads to would never be cleaned up.
                pipe.cmd("SADD").arg(&rooms).arg(room.as_str()).ignore();
                announced = true;
                pipe.cmd("HSET").arg(key).arg(field).arg(json).ignore();
            } else {
                pipe.cmd("HDEL").arg(key).arg(field).ignore();
                if *last {
                    pipe.cmd("SREM").arg(&rooms).arg(room.as_str()).ignore();
                }
            }
        }
        if announced {
            pipe.cmd("PEXPIRE").arg(&rooms).arg(ROOMS_MEMORY_MS).ignore();
        }
        Ok(self.send(&pipe).await?)
    }

    async fn list(&self, room: &RoomId) -> Result<Vec<PresenceEntry>, PresenceError> {
        let mut pipe = redis::pipe();
        pipe.cmd("HGETALL").arg(keys::presence(room));
        let (fields,): (HashMap<String, String>,) = self.connection.pipeline(&pipe).await?;
        let mut entries = Vec::with_capacity(fields.len());
        for (field, standing) in &fields {
            match entry(field, standing) {
                Some(entry) => entries.push(entry),
                None => warn!(room.id = %room, "somebody's presence cannot be read"),
            }
        }
        Ok(entries)
    }

    async fn withdraw(&self, incarnation: Uuid) -> Result<(), PresenceError> {
        Ok(self.take_out(incarnation).await?)
    }

    async fn clean_up(&self, incarnation: Uuid) -> Result<bool, PresenceError> {
        let mut pipe = redis::pipe();
        let lock = keys::reaping(incarnation);
        pipe.cmd("SET").arg(lock).arg(1).arg("NX").arg("PX").arg(REAP_MS);
        let (taken,): (Option<String>,) = self.connection.pipeline(&pipe).await?;
        if taken.is_none() || !self.has_lapsed(incarnation).await? {
            return Ok(false);
        }
        self.take_out(incarnation).await?;
        Ok(true)
    }

    async fn forget(&self, room: &RoomId, stale: &[(UserId, Uuid)]) -> Result<(), PresenceError> {
        let fields: Vec<String> = stale.iter().map(|(user, run)| field(user, *run)).collect();
        let mut pipe = redis::pipe();
        pipe.cmd("HDEL").arg(keys::presence(room)).arg(fields).ignore();
        Ok(self.send(&pipe).await?)
    }
}

#[cfg(test)]
mod tests {
    use shared::contract::protocol::PresenceStatus;
    use shared::contract::timestamp::Timestamp;

    use super::*;

    #[test]
    fn an_entry_is_read_as_it_was_written_and_rubbish_is_not() {
        let (user, incarnation) = (UserId::parse("ann").unwrap(), Uuid::from_u128(7));
        let standing = PresenceState {
            status: PresenceStatus::Idle,
            last_active_at: Timestamp(1_795_367_045_120),
        };
        let json = serde_json::to_string(&standing).unwrap();
        let read = entry(&field(&user, incarnation), &json).unwrap();
        assert_eq!(read, PresenceEntry { user, incarnation, standing });
        for (field, json) in [("ann", &*json), ("ann x", &json), ("ann 7 8", &json)] {
            assert!(entry(field, json).is_none(), "{field}");
        }
    }
}
