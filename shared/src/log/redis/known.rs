//! Where an id stands, as far as Redis remembers it.

use super::answer::MalformedAnswer;
use super::{RedisLog, refused};
use crate::contract::id::{MessageId, RoomId, UserId};
use crate::contract::keys;
use crate::contract::position::Position;
use crate::contract::refusal::Refusal;
use crate::log::LogError;

/// What the trim script puts before the refusal of an id.
const REFUSED: &[u8] = b"refused ";

/// What is remembered of an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KnownId {
    /// It stands.
    Placed {
        /// In the room's order.
        position: Position,
        /// It is in the database.
        persisted: bool,
    },
    /// The database has refused it for good.
    Rejected(Refusal),
}

impl RedisLog {
    /// Where an id stands, as long as it is remembered, and whether it is in the database. Of what
    /// stood before the present epoch only that is known which the database did not have then.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn known(
        &self,
        room: &RoomId,
        user: &UserId,
        key: &MessageId,
    ) -> Result<Option<KnownId>, LogError> {
        let mut call = self.scripts.known.prepare_invoke();
        call.key(keys::epoch(room.shard())).key(keys::id(room, user, key)).key(keys::head(room));
        let answer = self.call(&call).await?;
        if answer.status()? == "unknown" {
            return Ok(None);
        }
        let known = answer.bytes(1)?;
        if let Some(refusal) = known.strip_prefix(REFUSED) {
            return Ok(Some(KnownId::Rejected(refused(refusal)?)));
        }
        // The digest behind the position is not text.
        let mut parts = known.split(|byte| *byte == b' ');
        let position = Position::new(number(parts.next())?, number(parts.next())?);
        let persisted = Position::new(answer.number(2)?, answer.number(3)?);
        Ok(Some(KnownId::Placed { position, persisted: position <= persisted }))
    }
}

fn number(part: Option<&[u8]>) -> Result<u64, MalformedAnswer> {
    let text = part.and_then(|part| std::str::from_utf8(part).ok());
    text.and_then(|text| text.parse().ok()).ok_or(MalformedAnswer)
}
