//! Redis keys and channels: every name of a room carries the hash tag of its shard, so that one
//! script may touch them together and Redis Cluster keeps them on one node.

use uuid::Uuid;

use super::id::{MessageId, RoomId, Shard, UserId};

/// `(epoch, run id of the Redis that holds it, token)` of a shard.
#[must_use]
pub fn epoch(shard: Shard) -> String {
    format!("{{{shard}}}:epoch")
}

/// The shard log: one stream, entry ids `<epoch>-<n>`; the database is filled from it.
#[must_use]
pub fn log(shard: Shard) -> String {
    format!("{{{shard}}}:log")
}

/// The channel on which a shard's watermarks are published.
#[must_use]
pub fn watermark(shard: Shard) -> String {
    format!("{{{shard}}}:watermark")
}

/// A room's head and what of it is persisted.
#[must_use]
pub fn head(room: &RoomId) -> String {
    format!("{{{}}}:head:{room}", room.shard())
}

/// A room's ring: a short stream whose entry ids are the positions.
#[must_use]
pub fn ring(room: &RoomId) -> String {
    format!("{{{}}}:ring:{room}", room.shard())
}

/// What the database has refused of a room lately.
#[must_use]
pub fn refused(room: &RoomId) -> String {
    format!("{{{}}}:refused:{room}", room.shard())
}

/// The channel on which a room's entries are published.
#[must_use]
pub fn channel(room: &RoomId) -> String {
    format!("{{{}}}:room:{room}", room.shard())
}

/// A remembered id. Identity is (room, sender, id); ids have no white space, so a space separates.
#[must_use]
pub fn id(room: &RoomId, user: &UserId, id: &MessageId) -> String {
    format!("{{{}}}:id:{room} {user} {id}", room.shard())
}

/// How far each user has read a room.
#[must_use]
pub fn receipts(room: &RoomId) -> String {
    format!("{{{}}}:receipts:{room}", room.shard())
}

/// What each user's credits have moved in this shard and the database does not have.
#[must_use]
pub fn unsynced(shard: Shard) -> String {
    format!("{{{shard}}}:unsynced")
}

/// Up to which entry of its log a shard is in the database.
#[must_use]
pub fn synced(shard: Shard) -> String {
    format!("{{{shard}}}:synced")
}

/// How often a user has done something in the present minute. The user is the hash tag: ids have
/// no braces.
#[must_use]
pub fn rate(user: &UserId, allowance: &str) -> String {
    format!("roomcast:rate:{{{user}}}:{allowance}")
}

/// How often a user was refused in the present minute.
#[must_use]
pub fn refusals(user: &UserId) -> String {
    format!("roomcast:refusals:{{{user}}}")
}

/// Stands for as long as a user is blocked.
#[must_use]
pub fn block(user: &UserId) -> String {
    format!("roomcast:block:{{{user}}}")
}

/// What lies under a one-time ticket, by the ticket's SHA-256 in hexadecimal.
#[must_use]
pub fn ticket(hash: &str) -> String {
    format!("roomcast:ticket:{hash}")
}

/// What lies under a session token, by its SHA-256 in hexadecimal.
#[must_use]
pub fn session(hash: &str) -> String {
    format!("roomcast:session:{hash}")
}

/// The answers that are being written in a room: through which node, whose, and how they began.
#[must_use]
pub fn streams(room: &RoomId) -> String {
    format!("{{{}}}:streams:{room}", room.shard())
}

/// The text so far of an answer that is being written.
#[must_use]
pub fn stream_text(room: &RoomId, id: &MessageId) -> String {
    format!("{{{}}}:stream:{room} {id}", room.shard())
}

/// How an answer was closed, for as long as that is remembered.
#[must_use]
pub fn stream_closed(room: &RoomId, id: &MessageId) -> String {
    format!("{{{}}}:streamed:{room} {id}", room.shard())
}

/// When the producer of each answer that is being written in a shard last showed life.
#[must_use]
pub fn stream_lives(shard: Shard) -> String {
    format!("{{{shard}}}:streaming")
}

/// Who is in a room: a hash, field `<user> <incarnation>` (ids have no white space).
#[must_use]
pub fn presence(room: &RoomId) -> String {
    format!("{{{}}}:presence:{room}", room.shard())
}

/// The leases of the nodes: a sorted set, incarnation by the end of its lease.
pub const LEASES: &str = "roomcast:leases";

/// The rooms in which a run of a node has announced anybody: a set.
#[must_use]
pub fn rooms_of(incarnation: Uuid) -> String {
    format!("roomcast:node:{incarnation}")
}

/// Held by whoever cleans up after a run of a node.
#[must_use]
pub fn reaping(incarnation: Uuid) -> String {
    format!("roomcast:reap:{incarnation}")
}

/// The channel on which every node listens.
pub const NODES: &str = "roomcast:nodes";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_a_room_share_the_hash_tag_of_its_shard() {
        let room = RoomId::parse("123456789").unwrap();
        let user = UserId::parse("ann").unwrap();
        let message = MessageId::parse("m1").unwrap();
        assert_eq!(room.shard().to_string(), "s3");
        let keys = [
            epoch(room.shard()),
            log(room.shard()),
            watermark(room.shard()),
            head(&room),
            ring(&room),
            refused(&room),
            channel(&room),
            id(&room, &user, &message),
            streams(&room),
            stream_text(&room, &message),
            stream_closed(&room, &message),
            stream_lives(room.shard()),
            presence(&room),
        ];
        for key in keys {
            assert!(key.starts_with("{s3}:"), "{key}");
        }
    }
}
