//! AI credits: whole numbers; each movement counts once.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::id::{MessageId, RoomId, UserId};

/// The name space of [`event_id`]; chosen once.
const EVENT: Uuid = Uuid::from_u128(0x91d2_7be8_4a35_5c06_b1f7_524f_4f4d_4351);

/// Why a balance moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CreditKind {
    /// Used up: the balance falls.
    #[default]
    Usage,
    /// Bought: the balance rises.
    Purchase,
    /// Given back: the balance rises.
    Refund,
}

impl CreditKind {
    /// As the wire and the ledger spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            CreditKind::Usage => "usage",
            CreditKind::Purchase => "purchase",
            CreditKind::Refund => "refund",
        }
    }

    /// What an amount of this kind adds to the balance.
    #[must_use]
    pub fn signed(self, amount: u64) -> i64 {
        let amount = i64::try_from(amount).unwrap_or(i64::MAX);
        match self {
            CreditKind::Usage => -amount,
            CreditKind::Purchase | CreditKind::Refund => amount,
        }
    }
}

/// The body of a usage entry in the log, and what the ledger keeps of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreditEntry {
    /// Added to the balance: below 0 for what was used.
    pub amount: i64,
    /// Why.
    pub kind: CreditKind,
    /// Where it is what a message cost: that message's room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room_id: Option<RoomId>,
    /// The message it belongs to, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<MessageId>,
    /// Whatever the application attaches; an object.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub metadata: serde_json::Map<String, serde_json::Value>,
}

/// The id of what a message costs: `UUIDv5` (RFC 9562, 5.5) of the message's identity and the
/// kind, so that however often the message is offered, its cost stands once.
#[must_use]
pub fn event_id(
    room: &RoomId,
    sender: &UserId,
    message: &MessageId,
    kind: CreditKind,
) -> MessageId {
    // Ids have no white space, so that the spaces make the text unambiguous.
    let name = format!("{room} {sender} {message} {}", kind.as_str());
    MessageId::from_uuid(Uuid::new_v5(&EVENT, name.as_bytes()))
}
