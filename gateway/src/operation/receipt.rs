//! Builds a receipt and queues it.

use std::sync::Arc;

use bytes::Bytes;
use shared::contract::envelope::{EntryKind, Envelope};
use shared::contract::id::{MessageId, RoomId, UserId};
use shared::contract::position::Position;
use shared::contract::protocol::ReceiptReply;
use shared::contract::signal::ReadMark;
use shared::contract::timestamp::Timestamp;
use shared::log::Append;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::broker::receipt_queue::{QueuedReceipt, Read};
use crate::node::Node;
use crate::operation::post;
use crate::wire::codec;

/// Puts a mark in line; its answer comes when the log has it, or a further one of the same user.
pub(crate) fn submit(node: &Arc<Node>, room: &RoomId, mark: ReadMark) -> oneshot::Receiver<Read> {
    let (answer, read) = oneshot::channel();
    let key = (room.clone(), mark.user.clone());
    if let Some(first) = node.receipts.line_up(&key, QueuedReceipt { mark, answers: vec![answer] })
    {
        tokio::spawn(drive(Arc::clone(node), key, first));
    }
    read
}

async fn drive(node: Arc<Node>, key: (RoomId, UserId), first: QueuedReceipt) {
    let mut waiting = Some(first);
    while let Some(mut one) = waiting {
        let turn = node.receipts.turn(&key.1, node.settings.receipt_interval());
        tokio::select! {
            () = tokio::time::sleep_until(turn) => {}
            () = node.leaving.cancelled() => {}
        }
        node.receipts.gather(&key, &mut one);
        let QueuedReceipt { mark, answers } = one;
        let outcome = match node.append_queue.append(append(&key.0, &mark), None) {
            Ok(outcome) => outcome.await.unwrap_or_else(|_| Err(post::leaving())),
            Err(refusal) => Err(refusal),
        };
        let read = outcome.map(|accepted| ReceiptReply {
            position: mark.position,
            durability: accepted.only_journaled(),
        });
        for answer in answers {
            // Whoever asked may have left.
            let _ = answer.send(read.clone());
        }
        waiting = node.receipts.next(&key);
    }
}

fn append(room: &RoomId, mark: &ReadMark) -> Append {
    // Receipts are compared, never looked up by an id; this one only names the entry.
    let id = Uuid::new_v4();
    let envelope = Envelope {
        kind: EntryKind::Receipt,
        room: room.clone(),
        user: mark.user.clone(),
        id: MessageId::from_uuid(id),
        change_id: None,
        accepted_at: mark.read_at,
        body: Bytes::from(codec::json(mark)),
    };
    Append { envelope, digest: id, cost: None, author: None }
}

/// A mark of now.
pub(crate) fn mark(
    node: &Node,
    user: UserId,
    position: Position,
    message_id: Option<MessageId>,
) -> ReadMark {
    ReadMark { user, position, message_id, read_at: Timestamp(node.clock.now_ms()) }
}
