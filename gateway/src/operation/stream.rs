//! Carries an AI answer from its first delta to its message in the log. Callers authorize first.
//!
//! An answer is posted once, as a whole, under the id that it had from the beginning. Whoever posts
//! it, the producer's node at the end or another for a producer that fell silent, the log's memory
//! of ids lets only one of them stand. What stands and is marked as aborted, a late end edits: by
//! the same checks as any other edit.

mod late;

use std::sync::Arc;
use std::time::Duration;

use shared::contract::id::{MessageKey, UserId};
use shared::contract::limits::{
    STREAMS_PER_ROOM_MAX, STREAMS_PER_USER_MAX, STREAMS_PER_USER_ON_NODE_MAX,
};
use shared::contract::message::Metadata;
use shared::contract::refusal::{Refusal, RefusalCode};
use shared::process::error_chain::error_chain;
use shared::trouble;
use tracing::debug;

use crate::broker::append_queue::Outcome;
use crate::broker::waiters::Waiter;
use crate::node::Node;
use crate::operation::change;
use crate::operation::post::{self, Charge, MessageDraft, Said};
use crate::operation::submit::Author;
use crate::stream::buffer::{AppendError, StreamBuffer};
use crate::stream::{ClaimResult, ClosedStream, StoredStream, StreamHeader, StreamKey};

/// How often silent answers are looked for, at least and at most.
const LOOK_MIN: Duration = Duration::from_millis(20);
const LOOK_MAX: Duration = Duration::from_secs(1);

/// Tries of a delta whose answer moves away under it.
const TRIES_MAX: usize = 3;

/// How long an answer that another node closes may take to be known as closed.
const CLOSING_PAUSE: Duration = Duration::from_millis(100);
const CLOSING_TRIES_MAX: usize = 20;

/// The end of an answer, as its producer asks for it.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) key: StreamKey,
    /// Who asks.
    pub(crate) user: UserId,
    /// The whole text; what there is of it where it is absent.
    pub(crate) content: Option<String>,
    /// In place of those of the beginning.
    pub(crate) metadata: Option<Metadata>,
    pub(crate) cost: Option<Charge>,
}

/// What an end is about.
#[derive(Debug)]
pub(crate) enum StreamLookup {
    /// An answer that is being written.
    Open(Arc<StreamBuffer>),
    /// One that was closed not long ago.
    Closed(ClosedStream),
    /// Nothing that is remembered.
    Nothing,
}

/// Begins an answer, or takes the one that was begun; says where its next delta begins.
pub(crate) async fn start(
    node: &Node,
    key: &StreamKey,
    beginning: StreamHeader,
) -> Result<u64, Refusal> {
    let identity = identity(key, &beginning.user);
    let stands = node.log.known(&identity).await;
    if matches!(stands, Ok(Some(_))) {
        return Err(closed());
    }
    if node.streams.get(key).is_none()
        && node.streams.count_of(&beginning.user) >= STREAMS_PER_USER_ON_NODE_MAX
    {
        return Err(too_many(STREAMS_PER_USER_ON_NODE_MAX, "by one user through a node"));
    }
    match node.streams.store.begin(key, &beginning).await {
        Ok(ClaimResult::Begun) => {
            node.metrics.streams_begun_total.inc();
            let open = StoredStream { beginning, text: String::new(), mine: true };
            Ok(node.streams.put(key, open).units())
        }
        Ok(ClaimResult::Open(open)) => Ok(node.streams.put(key, open).units()),
        Ok(ClaimResult::Closed(was)) if was.beginning.user != beginning.user => Err(foreign()),
        Ok(ClaimResult::Closed(_)) => Err(closed()),
        Ok(ClaimResult::NotOwner) => Err(foreign()),
        Ok(ClaimResult::Full) => Err(too_many(STREAMS_PER_ROOM_MAX, "in a room")),
        Ok(ClaimResult::FullForUser) => {
            Err(too_many(STREAMS_PER_USER_MAX, "by one user in a room"))
        }
        Ok(ClaimResult::StillActive | ClaimResult::Unknown) => Err(post::away()),
        Err(error) => {
            debug!(room.id = %key.room, error = error_chain(&error), "answer cannot be begun");
            let held = node.streams.get(key).ok_or_else(post::away)?;
            own(&held.beginning, &beginning.user)?;
            Ok(held.units())
        }
    }
}

/// Goes on with an answer; says where its next delta begins.
pub(crate) async fn append(
    node: &Node,
    author: &Author<'_>,
    key: &StreamKey,
    offset: u64,
    delta: &str,
) -> Result<u64, Refusal> {
    for _ in 0..TRIES_MAX {
        let answer = match seek(node, key, author.user()).await? {
            StreamLookup::Open(answer) => answer,
            StreamLookup::Closed(_) => return Err(closed()),
            StreamLookup::Nothing => {
                let text = "no such answer is being written; begin it";
                return Err(Refusal::new(RefusalCode::NotFound, text).field("id"));
            }
        };
        author.may_say(answer.beginning.kind, None)?;
        match node.streams.add(&answer, offset, delta) {
            Ok(units) => return Ok(units),
            Err(AppendError::Gone) => {}
            Err(AppendError::Piece(error)) => return Err(error.into()),
            Err(error @ AppendError::Full) => {
                let refusal = Refusal::new(RefusalCode::Backpressure, error.to_string());
                return Err(refusal.retry_after_ms(1000));
            }
        }
    }
    Err(post::away())
}

/// The answer in the buffers of this node, or else from the stream store.
async fn seek(node: &Node, key: &StreamKey, user: &UserId) -> Result<StreamLookup, Refusal> {
    if let Some(answer) = node.streams.get(key) {
        return own(&answer.beginning, user).map(|()| StreamLookup::Open(answer));
    }
    match node.streams.store.take(key, user).await {
        Ok(ClaimResult::Open(open)) => Ok(StreamLookup::Open(node.streams.put(key, open))),
        Ok(ClaimResult::Closed(closed)) => {
            own(&closed.beginning, user).map(|()| StreamLookup::Closed(closed))
        }
        Ok(ClaimResult::NotOwner) => Err(foreign()),
        Ok(
            ClaimResult::Unknown
            | ClaimResult::Begun
            | ClaimResult::Full
            | ClaimResult::FullForUser
            | ClaimResult::StillActive,
        ) => Ok(StreamLookup::Nothing),
        Err(error) => {
            debug!(room.id = %key.room, error = error_chain(&error), "answer cannot be sought");
            Err(post::away())
        }
    }
}

/// Finds what is to be ended. From here on its text is what it is now.
pub(crate) async fn find(
    node: &Node,
    mut ending: Ending,
) -> Result<(StreamLookup, Ending), Refusal> {
    let found = seek(node, &ending.key, &ending.user).await?;
    if let StreamLookup::Open(answer) = &found {
        node.streams.touch(answer);
        ending.content.get_or_insert_with(|| answer.text());
    }
    Ok((found, ending))
}

/// Ends an answer: answered when the log has its message, or the edit that comes too late.
pub(crate) async fn end(
    node: &Node,
    author: &Author<'_>,
    found: StreamLookup,
    ending: Ending,
) -> Outcome {
    match found {
        StreamLookup::Open(answer) => whole(node, author, &answer, ending).await,
        StreamLookup::Closed(closed) if closed.aborted => {
            late::edit(node, author, closed, ending).await
        }
        StreamLookup::Closed(_) | StreamLookup::Nothing => late::end(node, author, ending).await,
    }
}

async fn whole(
    node: &Node,
    author: &Author<'_>,
    answer: &Arc<StreamBuffer>,
    ending: Ending,
) -> Outcome {
    if let Err(refusal) = author.may_say(answer.beginning.kind, ending.cost.as_ref()) {
        // It may have been closed a moment ago: then it is as late as any other end.
        let key = identity(&answer.key, &answer.beginning.user);
        return match post::known(node, key).await? {
            Some(_) => late::end(node, author, ending).await,
            None => Err(refusal),
        };
    }
    // Every part goes out before the message that ends them.
    node.streams.flush(answer).await;
    let Ending { content, metadata, cost, .. } = &ending;
    let content = content.clone().unwrap_or_else(|| answer.text());
    let metadata = metadata.clone().unwrap_or_else(|| answer.beginning.metadata.clone());
    let said = (content, metadata, cost.clone());
    let outcome = post(node, answer, said, author.waiter()).await;
    let Err(refusal) = &outcome else {
        node.streams.close(answer, false).await;
        return outcome;
    };
    if refusal.code == RefusalCode::Conflict {
        if let Some(closed) = closed_elsewhere(node, answer).await {
            return late::edit(node, author, closed, ending).await;
        }
        // Something else stands under its id.
        node.streams.close(answer, false).await;
    } else if refusal.code == RefusalCode::Rejected {
        node.streams.close(answer, true).await;
    } else {
        // The producer offers the end again.
        node.streams.touch(answer);
    }
    outcome
}

/// Puts the message in line and waits for what becomes of it.
async fn post(
    node: &Node,
    answer: &StreamBuffer,
    (content, metadata, cost): (String, Metadata, Option<Charge>),
    waiter: Option<Waiter>,
) -> Outcome {
    let StreamKey { room, id } = answer.key.clone();
    let StreamHeader { user, kind, .. } = answer.beginning.clone();
    let draft = MessageDraft { room, id, user, kind, content, metadata, cost };
    let said = Said::of(&draft);
    post::settled(node, &said, post::post(node, draft, waiter)?).await
}

/// How the answer was closed, if it was closed as aborted through another node, which may still be
/// about to say so.
async fn closed_elsewhere(node: &Node, answer: &StreamBuffer) -> Option<ClosedStream> {
    for _ in 0..CLOSING_TRIES_MAX {
        match node.streams.store.take(&answer.key, &answer.beginning.user).await {
            Ok(ClaimResult::Closed(closed)) => return Some(closed).filter(|closed| closed.aborted),
            Ok(ClaimResult::Open(_)) => tokio::time::sleep(CLOSING_PAUSE).await,
            _ => return None,
        }
    }
    None
}

/// Closes answers whose producers have fallen silent, for ever. Another node's are left to it for
/// a while longer: whoever takes an answer from the stream store first closes it.
pub(crate) async fn close_silent(node: Arc<Node>) {
    let silence = node.settings.stream_timeout_ms.duration();
    let patience = silence + silence / 4;
    loop {
        tokio::time::sleep((silence / 8).clamp(LOOK_MIN, LOOK_MAX)).await;
        for key in node.streams.silent(silence) {
            abort(&node, &key, silence).await;
        }
        match node.streams.store.silent(patience).await {
            Ok(keys) => {
                for key in keys {
                    abort(&node, &key, patience).await;
                }
            }
            Err(error) => {
                debug!(error = error_chain(&error), "silent answers cannot be looked for")
            }
        }
    }
}

/// Closes an answer, if its producer has been silent for so long wherever it was.
async fn abort(node: &Arc<Node>, key: &StreamKey, silence: Duration) {
    let held = node.streams.get(key);
    let answer = match node.streams.store.claim(key, silence).await {
        Ok(ClaimResult::Open(open)) => node.streams.put(key, open),
        Ok(ClaimResult::Closed(_) | ClaimResult::NotOwner) => {
            if let Some(answer) = held {
                node.streams.remove(&answer);
            }
            return;
        }
        // The stream store has forgotten it; the buffers have not.
        Ok(ClaimResult::Unknown) => match held {
            Some(answer) => answer,
            None => return,
        },
        Ok(
            ClaimResult::StillActive
            | ClaimResult::Begun
            | ClaimResult::Full
            | ClaimResult::FullForUser,
        ) => return,
        Err(error) => {
            debug!(room.id = %key.room, error = error_chain(&error),
                "silent answer cannot be claimed");
            return;
        }
    };
    node.streams.touch(&answer);
    let node = Arc::clone(node);
    tokio::spawn(async move { give_up(&node, &answer).await });
}

/// What there is of an answer becomes its message, marked as aborted.
async fn give_up(node: &Node, answer: &Arc<StreamBuffer>) {
    let metadata = change::marked(&answer.beginning.metadata);
    let refusal = match post(node, answer, (answer.text(), metadata, None), None).await {
        Ok(_) => return node.streams.close(answer, true).await,
        Err(refusal) => refusal,
    };
    if refusal.code == RefusalCode::Conflict {
        let claimed = node.streams.store.take(&answer.key, &answer.beginning.user).await;
        if matches!(claimed, Ok(ClaimResult::Closed(_))) {
            // Whoever came first has said how.
            node.streams.remove(answer);
        } else {
            // Its producer had ended it, and nobody had come to say so.
            node.streams.close(answer, false).await;
        }
    } else if refusal.code == RefusalCode::Rejected {
        node.streams.close(answer, true).await;
    } else {
        let StreamKey { room, id } = &answer.key;
        trouble!(room.id = %room, message.id = %id, code = refusal.code.as_str(),
            "silent answer is not closed yet");
    }
}

/// Before the node leaves: what others can go on with is put where they find it. Where there are
/// no others, every answer is closed, because its text would go with the process.
pub(crate) async fn leave(node: &Node, alone: bool) {
    for answer in node.streams.all() {
        node.streams.flush(&answer).await;
        if alone {
            give_up(node, &answer).await;
        }
    }
}

fn identity(key: &StreamKey, user: &UserId) -> MessageKey {
    let StreamKey { room, id } = key.clone();
    MessageKey { room, user: user.clone(), id }
}

fn own(beginning: &StreamHeader, user: &UserId) -> Result<(), Refusal> {
    if beginning.user == *user { Ok(()) } else { Err(foreign()) }
}

fn too_many(limit: usize, whose: &str) -> Refusal {
    let text = format!("at most {limit} answers are written {whose} at a time");
    Refusal::new(RefusalCode::Backpressure, text).retry_after_ms(1000).limit(limit)
}

fn foreign() -> Refusal {
    Refusal::new(RefusalCode::Forbidden, "this answer is somebody else's").field("id")
}

fn closed() -> Refusal {
    let text = "this answer is closed; if it was cut off, end it with the whole text";
    Refusal::new(RefusalCode::Conflict, text).field("id")
}
