//! An authenticated user and their permissions.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use shared::contract::id::{IdError, RoomId, UserId};
use shared::contract::message::MessageType;
use shared::contract::timestamp::Timestamp;

/// What a token's bearer may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// Speaks for itself.
    #[default]
    Member,
    /// May also change what others said.
    Moderator,
    /// Speaks as an AI assistant.
    Assistant,
    /// The application's backend.
    Service,
}

impl Role {
    /// Whether it may send messages of this type.
    pub(crate) fn may_send(self, kind: MessageType) -> bool {
        match kind {
            MessageType::User => true,
            MessageType::Assistant => matches!(self, Role::Assistant | Role::Service),
            MessageType::System => self == Role::Service,
        }
    }

    /// Whether it may change what others said, in every room that it may enter.
    pub(crate) fn moderates(self) -> bool {
        matches!(self, Role::Moderator | Role::Service)
    }
}

/// What a proof says of rooms, whichever kind of proof it is: the id of one, or a pattern of many.
/// No room id has a `*`, so that neither can be taken for the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RoomClaim {
    /// This room and no other.
    Room(RoomId),
    /// Every room whose id it matches.
    Pattern(Box<str>),
}

impl RoomClaim {
    /// Reads one; a pattern keeps to the rules of an id, but for its `*`.
    pub(crate) fn parse(text: &str) -> Result<RoomClaim, IdError> {
        match RoomId::parse(text) {
            Ok(room) => Ok(RoomClaim::Room(room)),
            Err(IdError::Pattern) => Ok(RoomClaim::Pattern(text.into())),
            Err(error @ (IdError::Empty | IdError::TooLong { .. } | IdError::Forbidden)) => {
                Err(error)
            }
        }
    }

    /// Those of a proof; what is none opens nothing.
    pub(super) fn all_of(texts: &[String]) -> Vec<RoomClaim> {
        texts.iter().filter_map(|text| RoomClaim::parse(text).ok()).collect()
    }

    fn opens(&self, room: &RoomId) -> bool {
        match self {
            RoomClaim::Room(only) => only == room,
            RoomClaim::Pattern(pattern) => matches(pattern, room.as_str()),
        }
    }
}

/// Somebody, proven.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// Who.
    pub(crate) user: UserId,
    /// Until when; `None` for ever.
    pub(crate) expires_at: Option<Timestamp>,
    /// What they may do.
    pub(crate) role: Role,
    /// The rooms they may enter.
    pub(super) rooms: Vec<RoomClaim>,
    /// Every room and every type: the development mode.
    pub(super) anything: bool,
    /// When the proof was given out, where it says so.
    pub(super) issued_at: Option<Timestamp>,
    /// Names the proof, so that it alone can be revoked.
    pub(super) proof_id: Option<String>,
}

impl Identity {
    /// Anybody, in the development mode.
    pub(crate) fn anybody(user: UserId, now: Timestamp) -> Identity {
        Identity {
            user,
            expires_at: None,
            role: Role::Service,
            rooms: Vec::new(),
            anything: true,
            issued_at: Some(now),
            proof_id: None,
        }
    }

    /// Whether the proof itself names the room.
    pub(crate) fn may_join(&self, room: &RoomId) -> bool {
        self.anything || self.rooms.iter().any(|claim| claim.opens(room))
    }

    /// Whether this one may send messages of this type.
    pub(crate) fn may_send(&self, kind: MessageType) -> bool {
        self.anything || self.role.may_send(kind)
    }

    /// Whether this one may say what others have used up.
    pub(crate) fn may_track(&self) -> bool {
        matches!(self.role, Role::Assistant | Role::Service)
    }

    /// Whether this is the application's backend.
    pub(crate) fn is_service(&self) -> bool {
        self.role == Role::Service
    }

    /// Whether what this one does is counted: the application's backend speaks for many, but
    /// anybody may be it in the development mode.
    pub(crate) fn is_limited(&self) -> bool {
        self.anything || self.role != Role::Service
    }

    /// What a revocation is compared with.
    pub(crate) fn subject(&self) -> TokenSubject {
        let (issued_at, proof_id) = (self.issued_at, self.proof_id.clone());
        TokenSubject { user: self.user.clone(), issued_at, proof_id }
    }
}

/// Whose a proof is, and which one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenSubject {
    /// Whose.
    pub(crate) user: UserId,
    /// When it was given out, where it says so.
    pub(super) issued_at: Option<Timestamp>,
    /// Its own name, where it has one.
    pub(super) proof_id: Option<String>,
}

/// Whether a text is what the pattern says, `*` standing for any run of characters.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        let cases = [
            ("*", "anything", true),
            ("team-*", "team-", true),
            ("team-*", "tea", false),
            ("*-dev", "a-dev", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "acb", false),
            ("aba*aba", "aba", false),
            ("exact", "exact", true),
            ("exact", "exactly", false),
            ("", "a", false),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_claim_is_one_room_or_a_pattern_or_nothing() {
        let room = |text: &str| RoomId::parse(text).unwrap();
        let texts = ["a", "b*", "", "c d", "{", "x:watermark"].map(str::to_owned);
        let claims = RoomClaim::all_of(&texts);
        assert_eq!(claims.len(), 3, "{claims:?}");
        let opens = |name: &str| claims.iter().any(|claim| claim.opens(&room(name)));
        assert!(opens("a") && opens("b") && opens("b1") && opens("x:watermark"));
        assert!(!opens("a1") && !opens("c") && !opens("y:watermark"));
    }

    #[test]
    fn roles_are_read_as_they_are_written() {
        for role in [Role::Member, Role::Moderator, Role::Assistant, Role::Service] {
            let written = serde_json::to_value(role).unwrap();
            assert_eq!(Role::from_str(written.as_str().unwrap(), false), Ok(role));
        }
        assert!(Role::from_str("king", false).is_err());
    }
}
