//! The stream store of a cluster: per answer a field of its room's hash, and a string.
//!
//! Every script has all its keys declared, which carry their shard's hash tag. Whatever lies there
//! has an expiry, which each touch puts off.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use redis::{Script, ScriptInvocation, Value};
use shared::contract::id::{MessageId, RoomId, Shard, UserId};
use shared::contract::keys;
use shared::contract::limits::{
    STREAM_KEPT_MS, STREAM_MEMORY_MS, STREAMS_PER_ROOM_MAX, STREAMS_PER_USER_MAX,
    STREAMS_SILENT_MAX,
};
use shared::log::redis::connection::{RedisConnection, RedisFailure};
use uuid::Uuid;

use super::{
    ClaimResult, ClosedStream, PutResult, StoredStream, StreamHeader, StreamKey, StreamStore,
    StreamStoreError,
};

/// In Redis.
#[derive(Debug)]
pub struct RedisStreamStore {
    connection: RedisConnection,
    /// Names this run of this node.
    node: String,
    take: Script,
    keep: Script,
    close: Script,
}

/// An answer of Redis that none of the scripts gives.
#[derive(Debug, thiserror::Error)]
#[error("redis gave an answer of another form")]
struct MalformedReply;

impl From<MalformedReply> for StreamStoreError {
    fn from(error: MalformedReply) -> StreamStoreError {
        StreamStoreError(Box::new(error))
    }
}

impl From<redis::RedisError> for StreamStoreError {
    fn from(error: redis::RedisError) -> StreamStoreError {
        StreamStoreError(Box::new(RedisFailure::from(error)))
    }
}

impl From<serde_json::Error> for StreamStoreError {
    fn from(error: serde_json::Error) -> StreamStoreError {
        StreamStoreError(Box::new(error))
    }
}

/// Whose answer is wanted, and in which state.
struct StreamFilter<'a> {
    user: Option<&'a UserId>,
    beginning: Option<&'a StreamHeader>,
    silence: Option<Duration>,
}

impl RedisStreamStore {
    /// For one run of a node, which `node` names.
    #[must_use]
    pub fn new(connection: RedisConnection, node: Uuid) -> RedisStreamStore {
        RedisStreamStore {
            connection,
            node: node.to_string(),
            take: Script::new(include_str!("redis/take.lua")),
            keep: Script::new(include_str!("redis/keep.lua")),
            close: Script::new(include_str!("redis/close.lua")),
        }
    }

    async fn taken(
        &self,
        key: &StreamKey,
        wanted: StreamFilter<'_>,
    ) -> Result<ClaimResult, StreamStoreError> {
        let mut call = prepared(&self.take, key);
        let beginning = wanted.beginning.map(serde_json::to_string).transpose()?;
        call.arg(&self.node).arg(wanted.user.map_or("", UserId::as_str));
        call.arg(beginning.unwrap_or_default()).arg(STREAMS_PER_ROOM_MAX).arg(STREAM_KEPT_MS);
        call.arg(wanted.silence.map_or(String::new(), |silence| silence.as_millis().to_string()));
        call.arg(STREAMS_PER_USER_MAX);
        let answer: Vec<String> = self.connection.script(&call).await?;
        let fields: Vec<&str> = answer.iter().map(String::as_str).collect();
        match fields[..] {
            ["begun"] => Ok(ClaimResult::Begun),
            ["open", former, beginning, text] => {
                let beginning = serde_json::from_str(beginning)?;
                let mine = former == self.node;
                Ok(ClaimResult::Open(StoredStream { beginning, text: text.to_owned(), mine }))
            }
            ["closed", how] => Ok(ClaimResult::Closed(serde_json::from_str(how)?)),
            ["foreign"] => Ok(ClaimResult::NotOwner),
            ["full"] => Ok(ClaimResult::Full),
            ["full for user"] => Ok(ClaimResult::FullForUser),
            ["lively"] => Ok(ClaimResult::StillActive),
            ["unknown"] => Ok(ClaimResult::Unknown),
            _ => Err(MalformedReply.into()),
        }
    }

    async fn now_ms(&self) -> Result<i64, StreamStoreError> {
        let mut pipe = redis::pipe();
        pipe.cmd("TIME");
        let ((seconds, micros),): ((i64, i64),) = self.connection.pipeline(&pipe).await?;
        Ok(seconds * 1000 + micros / 1000)
    }
}

/// A call with the keys of an answer and its first two arguments.
fn prepared<'a>(script: &'a Script, key: &StreamKey) -> ScriptInvocation<'a> {
    let StreamKey { room, id } = key;
    let mut call = script.prepare_invoke();
    call.key(keys::streams(room)).key(keys::stream_text(room, id));
    call.key(keys::stream_lives(room.shard())).key(keys::stream_closed(room, id));
    // Ids have no white space.
    call.arg(id.as_str()).arg(format!("{room} {id}"));
    call
}

/// What [`prepared`] put among the lives of a shard.
fn read_member(member: &str) -> Option<StreamKey> {
    let (room, id) = member.split_once(' ')?;
    Some(StreamKey { room: RoomId::parse(room).ok()?, id: MessageId::parse(id).ok()? })
}

/// What the take script puts into a room's hash: node, user, beginning.
fn read_held(held: &str) -> Option<(&str, StreamHeader)> {
    let (node, rest) = held.split_once(' ')?;
    let (_, beginning) = rest.split_once(' ')?;
    Some((node, serde_json::from_str(beginning).ok()?))
}

#[async_trait]
impl StreamStore for RedisStreamStore {
    async fn begin(
        &self,
        key: &StreamKey,
        beginning: &StreamHeader,
    ) -> Result<ClaimResult, StreamStoreError> {
        let user = Some(&beginning.user);
        self.taken(key, StreamFilter { user, beginning: Some(beginning), silence: None }).await
    }

    async fn take(&self, key: &StreamKey, user: &UserId) -> Result<ClaimResult, StreamStoreError> {
        self.taken(key, StreamFilter { user: Some(user), beginning: None, silence: None }).await
    }

    async fn claim(
        &self,
        key: &StreamKey,
        silence: Duration,
    ) -> Result<ClaimResult, StreamStoreError> {
        self.taken(key, StreamFilter { user: None, beginning: None, silence: Some(silence) }).await
    }

    async fn keep(
        &self,
        key: &StreamKey,
        from: usize,
        piece: &str,
    ) -> Result<PutResult, StreamStoreError> {
        let mut call = prepared(&self.keep, key);
        call.arg(&self.node).arg(from).arg(piece).arg(STREAM_KEPT_MS);
        let answer: String = self.connection.script(&call).await?;
        match answer.as_str() {
            "done" => Ok(PutResult::Done),
            "moved" => Ok(PutResult::Moved),
            "closed" => Ok(PutResult::Closed),
            "lost" => Ok(PutResult::Lost),
            _ => Err(MalformedReply.into()),
        }
    }

    async fn close(&self, key: &StreamKey, closed: &ClosedStream) -> Result<(), StreamStoreError> {
        let mut call = prepared(&self.close, key);
        call.arg(serde_json::to_string(closed)?).arg(STREAM_MEMORY_MS);
        let _: Value = self.connection.script(&call).await?;
        Ok(())
    }

    async fn open_in(
        &self,
        room: &RoomId,
    ) -> Result<Vec<(MessageId, StoredStream)>, StreamStoreError> {
        let mut pipe = redis::pipe();
        pipe.cmd("HGETALL").arg(keys::streams(room));
        let (held,): (HashMap<String, String>,) = self.connection.pipeline(&pipe).await?;
        let held: Vec<(MessageId, String)> = held
            .into_iter()
            .filter_map(|(id, held)| Some((MessageId::parse(&id).ok()?, held)))
            .collect();
        if held.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipe = redis::pipe();
        for (id, _) in &held {
            pipe.cmd("GET").arg(keys::stream_text(room, id));
        }
        let texts: Vec<Option<String>> = self.connection.pipeline(&pipe).await?;
        let open = held.into_iter().zip(texts).filter_map(|((id, held), text)| {
            let (node, beginning) = read_held(&held)?;
            let (text, mine) = (text.unwrap_or_default(), node == self.node);
            Some((id, StoredStream { beginning, text, mine }))
        });
        Ok(open.collect())
    }

    async fn silent(&self, silence: Duration) -> Result<Vec<StreamKey>, StreamStoreError> {
        let silence_ms = i64::try_from(silence.as_millis()).unwrap_or(i64::MAX);
        let before = self.now_ms().await? - silence_ms;
        let mut pipe = redis::pipe();
        for shard in Shard::all() {
            pipe.cmd("ZRANGE").arg(keys::stream_lives(shard)).arg("-inf").arg(before);
            pipe.arg("BYSCORE").arg("LIMIT").arg(0).arg(STREAMS_SILENT_MAX);
        }
        let silent: Vec<Vec<String>> = self.connection.pipeline(&pipe).await?;
        Ok(silent.iter().flatten().filter_map(|member| read_member(member)).collect())
    }
}
