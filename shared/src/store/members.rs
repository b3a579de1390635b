//! Members of rooms, and revocations.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::contract::id::{RoomId, UserId};
use crate::contract::timestamp::Timestamp;

/// What the database says of somebody and a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberRole {
    /// May enter.
    Member,
    /// May enter, and change what others said.
    Moderator,
    /// May not enter, whatever a token says: was a member and was removed.
    Removed,
}

impl MemberRole {
    /// As the database spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            MemberRole::Member => "member",
            MemberRole::Moderator => "moderator",
            MemberRole::Removed => "removed",
        }
    }

    /// What the database holds; what an application wrote there and is unknown counts as a member.
    #[must_use]
    pub fn from_stored(text: &str) -> MemberRole {
        match text {
            "moderator" => MemberRole::Moderator,
            "removed" => MemberRole::Removed,
            _ => MemberRole::Member,
        }
    }
}

/// Somebody who belongs to a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Who.
    pub user_id: UserId,
    /// As what.
    pub role: MemberRole,
    /// Since when.
    pub added_at: Timestamp,
}

/// Tokens that hold no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Whose tokens, or which one.
    pub subject: RevokedSubject,
    /// What was issued before this does not hold.
    pub at: Timestamp,
    /// When it can be forgotten, because everything it speaks of has expired.
    pub until: Timestamp,
}

/// What was revoked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RevokedSubject {
    /// All tokens of a user.
    User(UserId),
    /// One token, by its `jti`; the text is an id's.
    Token(String),
}

/// Members and revocations.
#[async_trait]
pub trait Members: Send + Sync + 'static {
    /// What the database says of somebody and a room, if anything.
    async fn member(&self, room: &RoomId, user: &UserId) -> Result<Option<MemberRole>, StoreError>;

    /// At most `limit` members of a room behind `after`, by user id; those removed are not among
    /// them.
    async fn members(
        &self,
        room: &RoomId,
        after: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<Member>, StoreError>;

    /// Everybody who was removed from a room and not added again.
    async fn removed(&self, room: &RoomId) -> Result<Vec<UserId>, StoreError>;

    /// Makes somebody a member, moderator, or removed.
    async fn set_member(
        &self,
        room: &RoomId,
        user: &UserId,
        role: MemberRole,
    ) -> Result<(), StoreError>;

    /// Remembers a revocation; the later of two stays.
    async fn revoke(&self, revocation: &Revocation) -> Result<(), StoreError>;

    /// Every revocation that is not to be forgotten yet.
    async fn revocations(&self) -> Result<Vec<Revocation>, StoreError> {
        self.revocations_since(Timestamp(0)).await
    }

    /// Those that are not to be forgotten yet and were made at `since` or later.
    async fn revocations_since(&self, since: Timestamp) -> Result<Vec<Revocation>, StoreError>;
}
