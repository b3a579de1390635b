//! AI answers while they are written: what is kept of them beside the log until they are whole.
//!
//! An answer is written through one node at a time, whose [`buffer`] has its text and gathers what
//! is new. Each tick the buffers put that in the stream store, which outlives the node in a
//! cluster, and tells the room's nodes. Whoever is to go on with an answer, another node that its
//! producer came to or one that closes it for a producer that fell silent, takes it from the stream
//! store: from then on the former node's pieces are refused. The log gets the whole text once, at
//! the end; until it has it, the answer stays in the stream store.

pub(crate) mod buffer;
pub(crate) mod text;
pub mod memory;
pub mod redis;

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use shared::contract::id::{MessageId, RoomId, UserId};
use shared::contract::message::{MessageType, Metadata};

/// Which answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey {
    /// The room it is written in.
    pub room: RoomId,
    /// The message that it will be.
    pub id: MessageId,
}

/// What is said of an answer when it begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamHeader {
    /// Who writes it.
    pub user: UserId,
    /// Who speaks.
    pub kind: MessageType,
    /// What the application attaches.
    pub metadata: Metadata,
}

/// An answer that is being written.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredStream {
    /// How it began.
    pub beginning: StreamHeader,
    /// What there is of it.
    pub text: String,
    /// Whether it was written through this node before it was taken.
    pub mine: bool,
}

/// An answer that is written no more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClosedStream {
    /// How it began.
    pub beginning: StreamHeader,
    /// Its producer had fallen silent.
    pub aborted: bool,
    /// What there was of an aborted one; empty where it was ended in order.
    pub text: String,
}

/// What was found when an answer was to be gone on with.
#[derive(Clone, Debug, PartialEq)]
pub enum ClaimResult {
    /// It is new, and written through this node.
    Begun,
    /// It was there, and is written through this node from now on.
    Open(StoredStream),
    /// It was closed not long ago.
    Closed(ClosedStream),
    /// It is somebody else's.
    NotOwner,
    /// Its room has as many as it may.
    Full,
    /// Its user has as many in the room as one may.
    FullForUser,
    /// Its producer shows life.
    StillActive,
    /// There is none.
    Unknown,
}

/// What became of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutResult {
    /// It is kept.
    Done,
    /// The answer is written through another node.
    Moved,
    /// The answer is closed.
    Closed,
    /// What should lie before it is not there: the stream store has forgotten the answer or a part
    /// of it.
    Lost,
}

/// The stream store does not answer; what was asked may or may not have been done.
#[derive(Debug, thiserror::Error)]
#[error("what is kept of answers cannot be reached")]
pub struct StreamStoreError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Where answers that are being written lie beside the log. Memory and Redis pass one suite of
/// contract tests. Whatever touches an answer is a sign of life of its producer.
#[async_trait]
pub trait StreamStore: std::fmt::Debug + Send + Sync + 'static {
    /// Begins an answer, or takes the one that its user has begun already.
    async fn begin(
        &self,
        key: &StreamKey,
        beginning: &StreamHeader,
    ) -> Result<ClaimResult, StreamStoreError>;

    /// Takes an answer that this user has begun.
    async fn take(&self, key: &StreamKey, user: &UserId) -> Result<ClaimResult, StreamStoreError>;

    /// Takes anybody's answer whose producer has shown no life for so long.
    async fn claim(
        &self,
        key: &StreamKey,
        silence: Duration,
    ) -> Result<ClaimResult, StreamStoreError>;

    /// Keeps a piece whose first byte is the text's byte `from`; what lay there before is the same.
    async fn keep(
        &self,
        key: &StreamKey,
        from: usize,
        piece: &str,
    ) -> Result<PutResult, StreamStoreError>;

    /// Remembers for a while how an answer was closed, and forgets the rest of it.
    async fn close(&self, key: &StreamKey, closed: &ClosedStream) -> Result<(), StreamStoreError>;

    /// The answers that are being written in a room.
    async fn open_in(
        &self,
        room: &RoomId,
    ) -> Result<Vec<(MessageId, StoredStream)>, StreamStoreError>;

    /// Some of the answers whose producers have shown no life for so long.
    async fn silent(&self, silence: Duration) -> Result<Vec<StreamKey>, StreamStoreError>;
}
