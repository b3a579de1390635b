//! The log in Redis: streams that scripts append to, read and trim.
//!
//! Every script is declared with all its keys, which carry their shard's hash tag, and is sent by
//! its digest. The scripts beside this file say what each does; what they share is `epoch.lua`.

mod naming;
mod ring;
mod operation;
mod answer;
pub mod connection;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use redis::{RedisError, Script, ScriptInvocation, Value};
use uuid::Uuid;

use self::answer::{Answer, LogEnd, MalformedAnswer};
use self::connection::{Foreign, Nameless, RedisConnection, RedisFailure, is_out_of_memory};
use self::naming::Unwritable;
use super::{
    Append, AppendBatchResult, AppendStop, Appended, Claim, Epoch, Hydration, Log, LogEntry,
    LogError, LogId, LogLoad, PageLimit, Past, Pending, Placement, RejectedEntry, RoomPage,
    Waiting, Watermark,
};
use crate::contract::id::{MessageKey, RoomId, Shard, UserId};
use crate::contract::keys;
use crate::contract::limits::{
    HYDRATION_AGE_MS_MAX, ID_MEMORY_MS, LOG_BYTES_MAX, RECEIPT_MEMORY_MS, REDIS_MEMORY_PERCENT,
    RING_BYTES_MAX, RING_ENTRIES, ROOM_MEMORY_MS,
};
use crate::contract::position::Position;
use crate::contract::refusal::Refusal;
use crate::contract::signal::{Addressed, NodeSignal, ReadMark, Signal};
use crate::contract::timestamp::Timestamp;

/// The log in Redis.
#[derive(Clone, Debug)]
pub struct RedisLog {
    connection: RedisConnection,
    scripts: Arc<Scripts>,
    entries_max: usize,
    /// Whether Redis had little memory left when it was last asked.
    short: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Scripts {
    claim: Script,
    arm: Script,
    append: Script,
    known: Script,
    read: Script,
    room: Script,
    hydrate: Script,
    refused: Script,
    trim: Script,
    forget: Script,
    forget_ring: Script,
}

impl Scripts {
    fn new() -> Scripts {
        let script =
            |body: &str| Script::new(&format!("{}\n{body}", include_str!("redis/epoch.lua")));
        Scripts {
            claim: script(include_str!("redis/claim.lua")),
            arm: script(include_str!("redis/arm.lua")),
            append: script(include_str!("redis/append.lua")),
            known: script(include_str!("redis/known.lua")),
            read: script(include_str!("redis/read.lua")),
            room: script(include_str!("redis/room.lua")),
            hydrate: script(include_str!("redis/hydrate.lua")),
            refused: script(include_str!("redis/refused.lua")),
            trim: script(include_str!("redis/trim.lua")),
            forget: script(include_str!("redis/forget.lua")),
            forget_ring: script(include_str!("redis/forget_ring.lua")),
        }
    }
}

impl From<Foreign> for LogError {
    fn from(error: Foreign) -> LogError {
        LogError::Unavailable(Box::new(error))
    }
}

impl From<Nameless> for LogError {
    fn from(error: Nameless) -> LogError {
        LogError::Unavailable(Box::new(error))
    }
}

impl From<RedisError> for LogError {
    fn from(error: RedisError) -> LogError {
        LogError::Unavailable(Box::new(RedisFailure::from(error)))
    }
}

impl From<MalformedAnswer> for LogError {
    fn from(error: MalformedAnswer) -> LogError {
        LogError::Unavailable(Box::new(error))
    }
}

impl RedisLog {
    /// The log behind a connection; a shard of it holds at most `entries_max` entries that are not
    /// persisted.
    #[must_use]
    pub fn new(connection: RedisConnection, entries_max: usize) -> RedisLog {
        let scripts = Arc::new(Scripts::new());
        RedisLog { connection, scripts, entries_max, short: Arc::default() }
    }

    /// How it is with Redis.
    #[must_use]
    pub fn connection(&self) -> &RedisConnection {
        &self.connection
    }

    /// Which of the logs have entries above the given place.
    async fn above(&self, after: &[(Shard, LogId)]) -> Result<Vec<Waiting>, LogError> {
        if after.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipe = redis::pipe();
        for (shard, _) in after {
            // Not an entry, which may be large.
            let load = ["last", "entries", "bytes", "pentries", "pbytes"];
            pipe.cmd("HMGET").arg(keys::load(*shard)).arg(&load);
            pipe.cmd("XLEN").arg(keys::log(*shard));
        }
        let found: Vec<Value> = self.connection.pipeline(&pipe).await?;
        let mut ready = Vec::new();
        for (&(shard, at), found) in after.iter().zip(found.chunks(2)) {
            match answer::end_of_log(found)? {
                Some(LogEnd { last, length, entry_bytes }) if last > at => {
                    let behind = if last.epoch == at.epoch { last.n - at.n } else { length };
                    ready.push(Waiting { shard, entries: behind.min(length), entry_bytes });
                }
                Some(_) | None => {}
            }
        }
        Ok(ready)
    }

    async fn call(&self, invocation: &ScriptInvocation<'_>) -> Result<Answer, LogError> {
        let value: Value = self.connection.script(invocation).await?;
        Ok(Answer::from(value))
    }
}

/// What the trim script puts before the refusal of an id.
const REFUSED: &[u8] = b"refused ";

fn number(part: Option<&[u8]>) -> Result<u64, MalformedAnswer> {
    let text = part.and_then(|part| std::str::from_utf8(part).ok());
    text.and_then(|text| text.parse().ok()).ok_or(MalformedAnswer)
}

/// The first entry that stays where everything up to `upto` goes.
fn first_kept(upto: LogId) -> String {
    format!("{}-{}", upto.epoch, upto.n + 1)
}

fn refused(json: &[u8]) -> Result<Refusal, MalformedAnswer> {
    serde_json::from_slice(json).map_err(|_| MalformedAnswer)
}

/// The answer, unless it is that the epoch is another.
fn fresh(answer: Answer, believed: u64) -> Result<Answer, LogError> {
    if answer.status()? == "stale" { Err(LogError::Stale { believed }) } else { Ok(answer) }
}

#[async_trait]
impl Log for RedisLog {
    async fn claim(&self, shard: Shard, at_least: u64, token: Uuid) -> Result<Claim, LogError> {
        let mut call = self.scripts.claim.prepare_invoke();
        let name = self.connection.deployment()?;
        call.key(keys::epoch(shard)).arg(at_least).arg(token.to_string()).arg(name);
        let answer = self.call(&call).await?;
        match answer.status()? {
            "armed" => Ok(Claim::Armed(Epoch {
                number: answer.number(1)?,
                minted_at: Timestamp(answer.text(2)?.parse().map_err(|_| MalformedAnswer)?),
                quiet: answer.text(3)? == "1",
            })),
            "token" => {
                let token = Uuid::try_parse(answer.text(1)?).map_err(|_| MalformedAnswer)?;
                Ok(Claim::Token(token))
            }
            "foreign" => {
                let name = answer.text(1)?.to_owned();
                self.connection.note_foreign(&name);
                Err(Foreign { name }.into())
            }
            _ => Err(MalformedAnswer.into()),
        }
    }

    async fn arm(
        &self,
        shard: Shard,
        token: Uuid,
        epoch: Epoch,
        cursor: LogId,
    ) -> Result<Option<Epoch>, LogError> {
        let mut call = self.scripts.arm.prepare_invoke();
        call.key(keys::epoch(shard)).key(keys::log(shard));
        call.key(keys::unsynced(shard)).key(keys::synced(shard));
        call.arg(epoch.number).arg(token.to_string()).arg(epoch.minted_at.0);
        call.arg(u8::from(epoch.quiet)).arg(cursor.epoch).arg(cursor.n);
        let armed: i64 = self.connection.script(&call).await?;
        Ok((armed > 0).then_some(Epoch { quiet: armed == 2, ..epoch }))
    }

    async fn wait(
        &self,
        after: &[(Shard, LogId)],
        patience: Duration,
    ) -> Result<Vec<Waiting>, LogError> {
        let ready = self.above(after).await?;
        if !ready.is_empty() || patience.is_zero() {
            return Ok(ready);
        }
        let streams = after.iter().map(|(shard, at)| (keys::log(*shard), at.to_string()));
        self.connection.wait_for_entry(streams, patience).await;
        self.above(after).await
    }

    async fn read(
        &self,
        shard: Shard,
        epoch: u64,
        after: LogId,
        most: PageLimit,
    ) -> Result<Vec<LogEntry>, LogError> {
        let mut call = self.scripts.read.prepare_invoke();
        call.key(keys::epoch(shard)).key(keys::log(shard));
        call.arg(epoch).arg(after.to_string()).arg(most.entries).arg(most.bytes.max(1));
        let answer = fresh(self.call(&call).await?, epoch)?;
        let entries: Result<Vec<LogEntry>, MalformedAnswer> = answer
            .rest()
            .map(|fields| {
                let fields = fields?;
                let position = match fields.text(1)? {
                    "" => None,
                    _ => Some(fields.position(1)?),
                };
                let (entries, bytes) = answer::pair(fields.text(3)?)?;
                let load = LogLoad { entries, bytes };
                Ok(LogEntry { id: fields.log_id(0)?, position, raw: fields.bytes(2)?, load })
            })
            .collect();
        Ok(entries?)
    }

    async fn len(&self, shard: Shard) -> Result<u64, LogError> {
        let mut pipe = redis::pipe();
        pipe.cmd("XLEN").arg(keys::log(shard));
        let (length,): (u64,) = self.connection.pipeline(&pipe).await?;
        Ok(length)
    }

    async fn trim(&self, watermark: &Watermark) -> Result<(), LogError> {
        let Watermark { shard, epoch, rooms, forget, ids, rejected, .. } = watermark;
        self.name_refused(rejected).await?;
        let channels = self.connection.channels()?;
        let told = Addressed { owner: channels.owner().to_owned(), told: watermark };
        let told = serde_json::to_vec(&told).map_err(Unwritable::from)?;
        let refused = watermark.movements.iter();
        let refused: Vec<_> =
            refused.filter_map(|m| Some((&m.user, m.refused.as_ref()?))).collect();
        let mut call = self.scripts.trim.prepare_invoke();
        call.key(keys::epoch(*shard)).key(keys::log(*shard));
        call.key(keys::unsynced(*shard)).key(keys::synced(*shard)).key(keys::load(*shard));
        let keep_from = match *forget {
            LogId::ZERO => String::new(),
            upto => first_kept(upto),
        };
        call.arg(*epoch).arg(keep_from).arg("PUBLISH").arg(channels.watermark(*shard)).arg(told);
        call.arg(ROOM_MEMORY_MS).arg(ID_MEMORY_MS).arg(RING_ENTRIES);
        call.arg(watermark.upto.to_string()).arg(rooms.len()).arg(rejected.len() + refused.len());
        call.arg(watermark.load.entries).arg(watermark.load.bytes);
        call.arg(RING_BYTES_MAX).arg(u8::from(self.short.load(Ordering::Relaxed)));
        for (room, position) in rooms {
            call.key(keys::head(room)).key(keys::ring(room));
            call.arg(position.epoch).arg(position.seq);
        }
        for rejected in rejected {
            call.key(keys::id(&rejected.room, &rejected.user, &rejected.key));
            call.arg(serde_json::to_vec(&rejected.error).map_err(Unwritable::from)?);
        }
        for (user, (key, error)) in refused {
            call.key(keys::movement(*shard, user, key));
            call.arg(serde_json::to_vec(error).map_err(Unwritable::from)?);
        }
        for movement in &watermark.movements {
            call.arg(movement.id.to_string()).arg(movement.user.as_str()).arg(movement.amount);
        }
        for id in ids {
            call.key(match id.refusal_of {
                Some(refused) => keys::refusal(&id.room, refused),
                None if id.is_movement => keys::movement(*shard, &id.user, &id.key),
                None => keys::id(&id.room, &id.user, &id.key),
            });
        }
        fresh(self.call(&call).await?, *epoch).map(drop)
    }

    async fn append(
        &self,
        shard: Shard,
        epoch: u64,
        entries: &[Append],
        past: Past,
    ) -> Result<AppendBatchResult, LogError> {
        let channels = self.connection.channels()?;
        let placed = entries.iter().filter(|entry| entry.envelope.kind.is_placed());
        let mut rooms: Vec<&RoomId> = placed.map(|entry| &entry.envelope.room).collect();
        rooms.sort_unstable();
        rooms.dedup();
        let mut call = self.scripts.append.prepare_invoke();
        call.key(keys::epoch(shard)).key(keys::log(shard)).key(keys::unsynced(shard));
        call.key(keys::load(shard)).key(keys::synced(shard)).arg(epoch);
        match past {
            Past::Nothing => {
                call.arg(self.entries_max).arg(LOG_BYTES_MAX).arg(REDIS_MEMORY_PERCENT)
            }
            Past::Caps | Past::Refusals => call.arg("").arg("").arg(""),
        };
        call.arg("PUBLISH").arg(RECEIPT_MEMORY_MS);
        call.arg(rooms.len());
        for room in &rooms {
            call.key(keys::head(room)).key(keys::ring(room)).arg(channels.room(room));
        }
        for entry in entries {
            operation::put(&mut call, entry, &rooms, channels, past)?;
        }
        let nothing = |stop| AppendBatchResult { done: Vec::new(), stop: Some(stop) };
        let answered: Result<Value, RedisError> = self.connection.script(&call).await;
        let answer = match answered {
            Ok(value) => Answer::from(value),
            // Refused before the first write: nothing was done.
            Err(error) if is_out_of_memory(&error) => {
                return Ok(nothing(AppendStop::Full));
            }
            Err(error) => return Err(error.into()),
        };
        let stop = match answer.status()? {
            "" => None,
            "stale" => return Ok(nothing(AppendStop::Stale)),
            "unhydrated" => Some(AppendStop::Unhydrated),
            "full" => Some(AppendStop::Full),
            _ => return Err(MalformedAnswer.into()),
        };
        let done: Result<Vec<Appended>, MalformedAnswer> =
            answer.rest().map(|fields| operation::appended(&fields?)).collect();
        Ok(AppendBatchResult { done: done?, stop })
    }

    async fn known(&self, identity: &MessageKey) -> Result<Option<Appended>, LogError> {
        let MessageKey { room, user, id } = identity;
        let mut call = self.scripts.known.prepare_invoke();
        call.key(keys::epoch(room.shard())).key(keys::id(room, user, id)).key(keys::head(room));
        let answer = self.call(&call).await?;
        if answer.status()? == "unknown" {
            return Ok(None);
        }
        let known = answer.bytes(1)?;
        if let Some(refusal) = known.strip_prefix(REFUSED) {
            return Ok(Some(Appended::Rejected(refused(refusal)?)));
        }
        // The digest behind the position is not text.
        let mut parts = known.split(|byte| *byte == b' ');
        let position = Position::new(number(parts.next())?, number(parts.next())?);
        let persisted = position <= Position::new(answer.number(2)?, answer.number(3)?);
        Ok(Some(Appended::Placed(Placement { position, duplicate: true, persisted })))
    }

    async fn forget(&self, shard: Shard, epoch: u64, upto: LogId) -> Result<(), LogError> {
        let mut call = self.scripts.forget.prepare_invoke();
        call.key(keys::epoch(shard)).key(keys::log(shard)).arg(epoch).arg(first_kept(upto));
        fresh(self.call(&call).await?, epoch).map(drop)
    }

    fn is_away(&self) -> bool {
        self.connection.health().is_away()
    }

    fn is_silent(&self) -> bool {
        self.connection.health().is_silent()
    }

    async fn is_short(&self) -> Result<bool, LogError> {
        let memory = self.connection.memory().await?;
        let short = memory.is_some_and(|(used, most)| used * 100 > most * REDIS_MEMORY_PERCENT);
        self.short.store(short, Ordering::Relaxed);
        Ok(short)
    }

    async fn room(
        &self,
        room: &RoomId,
        epoch: u64,
        after: Position,
        limit: usize,
    ) -> Result<Option<RoomPage>, LogError> {
        self.ring(room, epoch, &after.to_string(), limit).await
    }

    async fn latest(
        &self,
        room: &RoomId,
        epoch: u64,
        limit: usize,
    ) -> Result<Option<RoomPage>, LogError> {
        let mut page = self.ring(room, epoch, "+", limit).await?;
        if let Some(page) = &mut page {
            page.entries.reverse();
        }
        Ok(page)
    }

    async fn refused(&self, room: &RoomId) -> Result<Vec<RejectedEntry>, LogError> {
        self.refused_lately(room).await
    }

    async fn knows(&self, rooms: &[RoomId]) -> Result<Vec<bool>, LogError> {
        self.known_rooms(rooms).await
    }

    async fn lift(&self, room: &RoomId, refused: Position) -> Result<(), LogError> {
        self.lift_refusal(room, refused).await
    }

    async fn receipts(&self, room: &RoomId) -> Result<Vec<ReadMark>, LogError> {
        let mut pipe = redis::pipe();
        pipe.cmd("HGETALL").arg(keys::receipts(room));
        let (held,): (HashMap<String, String>,) = self.connection.pipeline(&pipe).await?;
        let marks = held.iter().map(|(user, value)| operation::read_mark(user, value));
        Ok(marks.collect::<Result<_, _>>()?)
    }

    async fn pending(&self, user: &UserId) -> Result<Pending, LogError> {
        let mut pipe = redis::pipe();
        for shard in Shard::all() {
            pipe.cmd("HGET").arg(keys::unsynced(shard)).arg(user.as_str());
        }
        let held: Vec<Option<i64>> = self.connection.pipeline(&pipe).await?;
        Ok(held.into_iter().flatten().fold(Pending::default(), Pending::add))
    }

    async fn synced(&self, shard: Shard) -> Result<LogId, LogError> {
        let mut pipe = redis::pipe();
        pipe.cmd("GET").arg(keys::synced(shard));
        let (held,): (Option<String>,) = self.connection.pipeline(&pipe).await?;
        let Some(held) = held else { return Ok(LogId::ZERO) };
        let (epoch, n) = answer::pair(&held)?;
        Ok(LogId { epoch, n })
    }

    async fn forget_ring(&self, room: &RoomId, epoch: u64) -> Result<(), LogError> {
        let mut call = self.scripts.forget_ring.prepare_invoke();
        call.key(keys::epoch(room.shard())).key(keys::head(room)).key(keys::ring(room));
        let channels = self.connection.channels()?;
        let told = Signal::Nodes(NodeSignal::Erased { room: room.clone() });
        let told = Addressed { owner: channels.owner().to_owned(), told };
        call.arg(epoch).arg(channels.nodes());
        call.arg(serde_json::to_vec(&told).map_err(Unwritable::from)?);
        fresh(self.call(&call).await?, epoch).map(drop)
    }

    async fn now_ms(&self) -> Result<i64, LogError> {
        Ok(self.connection.time_ms().await?)
    }

    async fn hydrate(&self, epoch: u64, hydration: &Hydration) -> Result<(), LogError> {
        self.name_refused(&hydration.refused).await?;
        let mut call = self.scripts.hydrate.prepare_invoke();
        call.key(keys::epoch(hydration.shard));
        call.arg(epoch).arg(hydration.asked_at_ms).arg(HYDRATION_AGE_MS_MAX);
        for (room, head) in &hydration.heads {
            call.key(keys::head(room)).key(keys::ring(room));
            call.arg(head.epoch).arg(head.seq);
        }
        call.arg(ROOM_MEMORY_MS);
        fresh(self.call(&call).await?, epoch).map(drop)
    }
}
