//! The arguments of one entry for the append script.

use redis::ScriptInvocation;

use super::answer::{Answer, MalformedAnswer};
use crate::contract::credit::CreditEntry;
use crate::contract::envelope::{EntryKind, Envelope, Retraction};
use crate::contract::id::{MessageId, RoomId, UserId};
use crate::contract::keys::{self, Channels};
use crate::contract::position::Position;
use crate::contract::signal::{Addressed, ReadMark, RoomSignal, Signal};
use crate::contract::timestamp::Timestamp;
use crate::log::{Append, Appended, LogError, Past, Placement};

/// An entry whose body is not of its kind.
#[derive(Debug, thiserror::Error)]
#[error("the entry's body is not of its kind")]
struct MalformedBody(#[from] serde_json::Error);

impl From<MalformedBody> for LogError {
    fn from(error: MalformedBody) -> LogError {
        LogError::Unavailable(Box::new(error))
    }
}

/// Adds an entry's key and arguments; `rooms` are those of the call, sorted.
pub(super) fn put(
    call: &mut ScriptInvocation<'_>,
    entry: &Append,
    rooms: &[&RoomId],
    channels: &Channels,
    past: Past,
) -> Result<(), LogError> {
    let Append { envelope, digest, cost, .. } = entry;
    // The worker does not know what a client would offer again under the id.
    let digest = if past == Past::Nothing { digest.as_bytes().as_slice() } else { &[] };
    match envelope.kind {
        EntryKind::Receipt => return put_receipt(call, envelope, channels),
        EntryKind::Usage => {
            let Envelope { room, user, id, .. } = envelope;
            call.key(keys::movement(room.shard(), user, id));
            call.arg("u").arg(digest).arg(encode(envelope));
            call.arg(envelope.user.as_str()).arg(amount(envelope)?);
        }
        placed => {
            debug_assert!(placed.is_placed(), "what has no place comes before");
            call.key(match envelope.kind {
                EntryKind::Refusal => {
                    let body: Retraction =
                        serde_json::from_slice(&envelope.body).map_err(MalformedBody)?;
                    keys::refusal(&envelope.room, body.refused)
                }
                _ => keys::id(&envelope.room, &envelope.user, envelope.key()),
            });
            let place = rooms.binary_search(&&envelope.room).unwrap_or_else(|place| place);
            call.arg(match (cost, past) {
                (Some(_), _) => "c",
                (None, Past::Refusals) => "d",
                (None, Past::Nothing | Past::Caps) => "m",
            });
            call.arg(place + 1).arg(digest).arg(encode(envelope));
            if let Some(cost) = cost {
                call.arg(encode(cost)).arg(cost.user.as_str()).arg(amount(cost)?);
            }
        }
    }
    Ok(())
}

fn put_receipt(
    call: &mut ScriptInvocation<'_>,
    envelope: &Envelope,
    channels: &Channels,
) -> Result<(), LogError> {
    let mark: ReadMark = serde_json::from_slice(&envelope.body).map_err(MalformedBody)?;
    let signal =
        Signal::Room { room: envelope.room.clone(), what: RoomSignal::Receipt(mark.clone()) };
    let told = Addressed { owner: channels.owner().to_owned(), told: signal };
    call.key(keys::receipts(&envelope.room));
    call.arg("r").arg(mark.user.as_str()).arg(mark.position.epoch).arg(mark.position.seq);
    call.arg(mark.message_id.as_ref().map_or("", MessageId::as_str)).arg(mark.read_at.0);
    call.arg(encode(envelope)).arg(channels.room(&envelope.room));
    call.arg(serde_json::to_vec(&told).map_err(MalformedBody)?);
    Ok(())
}

/// What the append script keeps of a receipt: epoch, seq, when, its place in the log, and the
/// message, which is last because it may be empty.
pub(super) fn read_mark(user: &str, value: &str) -> Result<ReadMark, MalformedAnswer> {
    let mut parts = value.splitn(5, ' ');
    let mut next = || parts.next().ok_or(MalformedAnswer);
    let number = |text: &str| text.parse::<u64>().map_err(|_| MalformedAnswer);
    let position = Position::new(number(next()?)?, number(next()?)?);
    let read_at = Timestamp(next()?.parse().map_err(|_| MalformedAnswer)?);
    let _place = next()?;
    Ok(ReadMark {
        user: UserId::parse(user).map_err(|_| MalformedAnswer)?,
        position,
        message_id: MessageId::parse(next()?).ok(),
        read_at,
    })
}

/// What became of an entry.
pub(super) fn appended(fields: &Answer) -> Result<Appended, MalformedAnswer> {
    if fields.status()? == "refused" {
        return Ok(Appended::Rejected(super::refused(fields.text(1)?.as_bytes())?));
    }
    if fields.text(3)? == "0" {
        return Ok(Appended::Conflict);
    }
    let position = Position::new(fields.number(0)?, fields.number(1)?);
    let persisted = Position::new(fields.number(4)?, fields.number(5)?);
    let (duplicate, persisted) = (fields.text(2)? == "1", position <= persisted);
    Ok(Appended::Placed(Placement { position, duplicate, persisted }))
}

fn encode(envelope: &Envelope) -> Vec<u8> {
    envelope.encode().expect("a checked message fits in an envelope")
}

fn amount(usage: &Envelope) -> Result<i64, LogError> {
    let entry: CreditEntry = serde_json::from_slice(&usage.body).map_err(MalformedBody)?;
    Ok(entry.amount)
}
