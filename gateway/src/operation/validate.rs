//! Validates the fields of commands and requests, by the table in `PROTOCOL.md`. Ids of rooms,
//! users and messages check themselves where they are read.

use shared::contract::id::MessageId;
use shared::contract::limits::{
    CREDITS_MAX, ID_AHEAD_MS_MAX, METADATA_LEVELS_MAX, PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX,
};
use shared::contract::message::{Metadata, TextError, check_content};
use shared::contract::position::Position;
use shared::contract::protocol::Attached;
use shared::contract::refusal::{Refusal, RefusalCode};
use shared::contract::timestamp::Timestamp;

/// What is repeated at most of a key that is refused.
const KEY_CHARS_SHOWN: usize = 64;

/// The text of a message.
pub(crate) fn content(field: &str, text: &str) -> Result<(), Refusal> {
    check_content(text).map_err(|error| refusal_of(field, error))
}

/// Marks the message of an answer that was cut off, in its metadata.
pub(crate) const ABORTED: &str = "aborted";

/// What the server's own keys in anything that is attached begin with.
const OWN_KEYS: &str = "roomcast.";

/// What an application attaches to a message. The mark of an answer that was cut off is the
/// server's to set.
pub(crate) fn message_metadata(metadata: Metadata) -> Result<Metadata, Refusal> {
    check("metadata", &metadata)?;
    if metadata.entries().contains_key(ABORTED) {
        return Err(servers_own("metadata", ABORTED));
    }
    Ok(metadata)
}

/// What an application attaches to a movement of credits.
pub(crate) fn attached(field: &str, object: &Attached) -> Result<(), Refusal> {
    let text = serde_json::to_string(object).expect("an object of JSON values is JSON");
    check(field, &Metadata::from_stored(&text))
}

fn check(field: &str, metadata: &Metadata) -> Result<(), Refusal> {
    metadata.check().map_err(|error| refusal_of(field, error))?;
    match metadata.entries().keys().find(|key| key.starts_with(OWN_KEYS)) {
        Some(key) => Err(servers_own(field, key)),
        None => Ok(()),
    }
}

fn servers_own(field: &str, key: &str) -> Refusal {
    let text = "this key is the server's own; leave it out";
    let key: String = key.chars().take(KEY_CHARS_SHOWN).collect();
    Refusal::new(RefusalCode::InvalidField, text).field(format!("{field}.{key}"))
}

/// An id from the future would be young for ever, and escape the lookup of late duplicates.
pub(crate) fn id(field: &str, id: &MessageId, now_ms: i64) -> Result<(), Refusal> {
    if id.made_at_ms().is_none_or(|made_at_ms| made_at_ms <= now_ms + ID_AHEAD_MS_MAX) {
        return Ok(());
    }
    let now = Timestamp(now_ms);
    let text = format!("the id's time is more than 5 minutes ahead of the server's, {now}");
    Err(Refusal::new(RefusalCode::BadId, text).field(field).server_time(now))
}

/// An amount of credits.
pub(crate) fn amount(field: &str, amount: u64) -> Result<u64, Refusal> {
    if (1..=CREDITS_MAX).contains(&amount) {
        return Ok(amount);
    }
    let text = format!("an amount is a whole number from 1 to {CREDITS_MAX}");
    let refusal = Refusal::new(RefusalCode::InvalidField, text).field(field);
    Err(refusal.limit(usize::try_from(CREDITS_MAX).unwrap_or(usize::MAX)))
}

/// The page size that was asked for.
pub(crate) fn page_rows(limit: Option<u32>) -> Result<u32, Refusal> {
    match limit {
        None => Ok(PAGE_ROWS_DEFAULT),
        Some(limit) if (1..=PAGE_ROWS_MAX).contains(&limit) => Ok(limit),
        Some(_) => {
            let text = format!("limit is from 1 to {PAGE_ROWS_MAX}");
            let refusal = Refusal::new(RefusalCode::InvalidField, text).field("limit");
            Err(refusal.limit(PAGE_ROWS_MAX as usize))
        }
    }
}

/// A position whose parts are integers that JavaScript, Redis and the database hold exactly.
pub(crate) fn position(field: &str, position: Position) -> Result<Position, Refusal> {
    if position.epoch <= Position::MAX.epoch && position.seq <= Position::MAX.seq {
        return Ok(position);
    }
    let text = "epoch and seq are at most 2^53 - 1";
    Err(Refusal::new(RefusalCode::InvalidField, text).field(field))
}

fn refusal_of(field: &str, error: TextError) -> Refusal {
    let text = error.to_string();
    match error {
        TextError::TooLong { limit, .. } => {
            Refusal::new(RefusalCode::TooLarge, text).field(field).limit(limit)
        }
        TextError::TooDeep => {
            let refusal = Refusal::new(RefusalCode::TooLarge, text).field(field);
            refusal.limit(METADATA_LEVELS_MAX)
        }
        TextError::Nul | TextError::Surrogate => {
            Refusal::new(RefusalCode::InvalidField, text).field(field)
        }
    }
}
