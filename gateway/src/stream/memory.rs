//! The stream store of the embedded mode.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use shared::contract::id::{MessageId, RoomId, UserId};
use shared::contract::limits::{
    STREAM_MEMORY_MS, STREAMS_PER_ROOM_MAX, STREAMS_PER_USER_MAX, STREAMS_REMEMBERED_MAX,
};
use tokio::time::Instant;

use super::{
    ClaimResult, ClosedStream, PutResult, StoredStream, StreamHeader, StreamKey, StreamStore,
    StreamStoreError,
};

/// How long a closed answer is remembered.
const MEMORY: Duration = Duration::from_millis(STREAM_MEMORY_MS);

/// In memory.
#[derive(Debug, Default)]
pub struct MemoryStreamStore {
    state: Mutex<MemoryState>,
}

#[derive(Debug, Default)]
struct MemoryState {
    rooms: HashMap<RoomId, BTreeMap<MessageId, StreamRow>>,
    closed: HashMap<StreamKey, (ClosedStream, Instant)>,
    /// In the order of their closing.
    order: VecDeque<(StreamKey, Instant)>,
}

#[derive(Debug)]
struct StreamRow {
    beginning: StreamHeader,
    text: String,
    touched: Instant,
}

impl StreamRow {
    fn open(&self) -> StoredStream {
        StoredStream { beginning: self.beginning.clone(), text: self.text.clone(), mine: true }
    }
}

impl MemoryState {
    fn row(&mut self, key: &StreamKey) -> Option<&mut StreamRow> {
        self.rooms.get_mut(&key.room)?.get_mut(&key.id)
    }

    fn closed(&self, key: &StreamKey) -> Option<ClosedStream> {
        let (closed, at) = self.closed.get(key)?;
        (at.elapsed() < MEMORY).then(|| closed.clone())
    }

    /// Takes what is there, if it is for this user; `None` is for anybody.
    fn take(&mut self, key: &StreamKey, user: Option<&UserId>) -> ClaimResult {
        let Some(row) = self.row(key) else {
            return self.closed(key).map_or(ClaimResult::Unknown, ClaimResult::Closed);
        };
        if user.is_some_and(|user| *user != row.beginning.user) {
            return ClaimResult::NotOwner;
        }
        row.touched = Instant::now();
        ClaimResult::Open(row.open())
    }

    fn remember(&mut self, key: StreamKey, closed: ClosedStream) {
        let now = Instant::now();
        self.closed.insert(key.clone(), (closed, now));
        self.order.push_back((key, now));
        while let Some((oldest, at)) = self.order.front()
            && (self.order.len() > STREAMS_REMEMBERED_MAX || at.elapsed() >= MEMORY)
        {
            // One that was closed again since has a later place in the order.
            if self.closed.get(oldest).is_some_and(|(_, closed_at)| closed_at == at) {
                self.closed.remove(oldest);
            }
            self.order.pop_front();
        }
    }
}

impl MemoryStreamStore {}

#[async_trait]
impl StreamStore for MemoryStreamStore {
    async fn begin(
        &self,
        key: &StreamKey,
        beginning: &StreamHeader,
    ) -> Result<ClaimResult, StreamStoreError> {
        let mut state = self.state.lock();
        let found = state.take(key, Some(&beginning.user));
        if found != ClaimResult::Unknown {
            return Ok(found);
        }
        let room = state.rooms.entry(key.room.clone()).or_default();
        if room.len() >= STREAMS_PER_ROOM_MAX {
            return Ok(ClaimResult::Full);
        }
        let own = room.values().filter(|row| row.beginning.user == beginning.user).count();
        if own >= STREAMS_PER_USER_MAX {
            return Ok(ClaimResult::FullForUser);
        }
        let (beginning, touched) = (beginning.clone(), Instant::now());
        room.insert(key.id.clone(), StreamRow { beginning, text: String::new(), touched });
        Ok(ClaimResult::Begun)
    }

    async fn take(&self, key: &StreamKey, user: &UserId) -> Result<ClaimResult, StreamStoreError> {
        Ok(self.state.lock().take(key, Some(user)))
    }

    async fn claim(
        &self,
        key: &StreamKey,
        silence: Duration,
    ) -> Result<ClaimResult, StreamStoreError> {
        let mut state = self.state.lock();
        if state.row(key).is_some_and(|row| row.touched.elapsed() < silence) {
            return Ok(ClaimResult::StillActive);
        }
        Ok(state.take(key, None))
    }

    async fn keep(
        &self,
        key: &StreamKey,
        from: usize,
        piece: &str,
    ) -> Result<PutResult, StreamStoreError> {
        let mut state = self.state.lock();
        let Some(row) = state.row(key) else {
            return Ok(if state.closed(key).is_some() {
                PutResult::Closed
            } else {
                PutResult::Lost
            });
        };
        if !row.text.is_char_boundary(from) {
            return Ok(PutResult::Lost);
        }
        row.text.truncate(from);
        row.text.push_str(piece);
        row.touched = Instant::now();
        Ok(PutResult::Done)
    }

    async fn close(&self, key: &StreamKey, closed: &ClosedStream) -> Result<(), StreamStoreError> {
        let mut state = self.state.lock();
        if let Some(room) = state.rooms.get_mut(&key.room) {
            room.remove(&key.id);
            if room.is_empty() {
                state.rooms.remove(&key.room);
            }
        }
        state.remember(key.clone(), closed.clone());
        Ok(())
    }

    async fn open_in(
        &self,
        room: &RoomId,
    ) -> Result<Vec<(MessageId, StoredStream)>, StreamStoreError> {
        let state = self.state.lock();
        let rows = state.rooms.get(room).into_iter().flatten();
        Ok(rows.map(|(id, row)| (id.clone(), row.open())).collect())
    }

    async fn silent(&self, silence: Duration) -> Result<Vec<StreamKey>, StreamStoreError> {
        let state = self.state.lock();
        let rows = state.rooms.iter().flat_map(|(room, rows)| rows.iter().map(move |r| (room, r)));
        let silent = rows.filter(|(_, (_, row))| row.touched.elapsed() >= silence);
        let key = |(room, (id, _)): (&RoomId, (&MessageId, &StreamRow))| StreamKey {
            room: room.clone(),
            id: id.clone(),
        };
        Ok(silent.map(key).collect())
    }
}
