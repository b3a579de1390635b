//! Redis keys and channels. Each name of a room carries the hash tag of its shard, so that one
//! script may touch them together and Redis Cluster keeps them on one node.
//!
//! Keys belong to one database of a Redis, and to the one deployment that has taken it
//! ([`DEPLOYMENT`]). Channels belong to the whole server: each carries the number of the database
//! and the deployment's name, so that two that share a server do not hear each other.

use uuid::Uuid;

use super::id::{MessageId, RoomId, Shard, UserId};
use super::position::Position;

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

/// How much was ever appended to a shard's log, and how much of it is persisted.
#[must_use]
pub fn load(shard: Shard) -> String {
    format!("{{{shard}}}:load")
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

/// A remembered id. Identity is (room, sender, id); ids have no white space, so a space separates.
#[must_use]
pub fn id(room: &RoomId, user: &UserId, id: &MessageId) -> String {
    format!("{{{}}}:id:{room} {user} {id}", room.shard())
}

/// That the refusal of the entry at a place is in the log already: a name space of its own, or the
/// id of somebody's message could keep the refusal from being told.
#[must_use]
pub fn refusal(room: &RoomId, refused: Position) -> String {
    format!("{{{}}}:refusal:{room} {refused}", room.shard())
}

/// A remembered movement of credits on its own: a name space beside that of messages, so that
/// neither can be taken for the other.
#[must_use]
pub fn movement(shard: Shard, user: &UserId, id: &MessageId) -> String {
    format!("{{{shard}}}:movement:{user} {id}")
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

/// The rooms that a user has been in lately, by when they came.
#[must_use]
pub fn usual_rooms(user: &UserId) -> String {
    format!("roomcast:rooms:{{{user}}}")
}

/// Held by the one node that spends a user's credits just now.
#[must_use]
pub fn spending(user: &UserId) -> String {
    format!("roomcast:spending:{{{user}}}")
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

/// How many connections each run of a gateway has: a hash.
pub const LOADS: &str = "roomcast:loads";

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

/// The name of the deployment whose keys these are: written once, by whoever comes first.
pub const DEPLOYMENT: &str = "roomcast:deployment";

/// The version of keys, channels and envelopes that this program speaks. The database's record of
/// the deployment says which one it is to be: programs of two versions do not work side by side.
pub const VERSION: u32 = 1;

/// The channels of one deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channels {
    name: String,
    /// `<database>/<name>`.
    owner: String,
}

/// What a channel is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A room's entries and signals.
    Room(RoomId),
    /// A shard's watermarks.
    Watermark(Shard),
    /// What every node has to know.
    Nodes,
    /// What a node publishes to hear whether it comes back.
    Probe(String),
}

impl Channels {
    /// Those of the deployment `name` in a database of a Redis.
    #[must_use]
    pub fn new(database: i64, name: &str) -> Channels {
        Channels { name: name.to_owned(), owner: format!("{database}/{name}") }
    }

    /// The deployment's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whose they are: also in everything that is published and could be mistaken for another's.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }

    fn named(&self, purpose: std::fmt::Arguments<'_>) -> String {
        format!("roomcast/{}:{purpose}", self.owner)
    }

    /// On which a room's entries are published.
    #[must_use]
    pub fn room(&self, room: &RoomId) -> String {
        self.named(format_args!("{{{}}}:room:{room}", room.shard()))
    }

    /// On which a shard's watermarks are published.
    #[must_use]
    pub fn watermark(&self, shard: Shard) -> String {
        self.named(format_args!("{{{shard}}}:watermark"))
    }

    /// On which every node listens.
    #[must_use]
    pub fn nodes(&self) -> String {
        self.named(format_args!("nodes"))
    }

    /// On which a node hears what it publishes itself.
    #[must_use]
    pub fn probe(&self, node: &str) -> String {
        self.named(format_args!("probe:{node}"))
    }

    /// What one of these channels is for, read whole: a room may have any name. `None` where it is
    /// none of them.
    #[must_use]
    pub fn purpose(&self, channel: &str) -> Option<Purpose> {
        let rest = channel.strip_prefix("roomcast/")?.strip_prefix(&self.owner)?;
        let purpose = rest.strip_prefix(':')?;
        let read = if let Some(node) = purpose.strip_prefix("probe:") {
            Purpose::Probe(node.to_owned())
        } else if purpose == "nodes" {
            Purpose::Nodes
        } else if let Some((_, room)) = purpose.split_once(":room:") {
            Purpose::Room(RoomId::parse(room).ok()?)
        } else {
            Purpose::Watermark(Shard::all().find(|shard| purpose.starts_with(&tag(*shard)))?)
        };
        // What it would be called is what it is called.
        (self.channel(&read) == channel).then_some(read)
    }

    fn channel(&self, purpose: &Purpose) -> String {
        match purpose {
            Purpose::Room(room) => self.room(room),
            Purpose::Watermark(shard) => self.watermark(*shard),
            Purpose::Nodes => self.nodes(),
            Purpose::Probe(node) => self.probe(node),
        }
    }
}

fn tag(shard: Shard) -> String {
    format!("{{{shard}}}:")
}

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
            load(room.shard()),
            head(&room),
            ring(&room),
            refused(&room),
            refusal(&room, Position::new(1, 2)),
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

    #[test]
    fn a_channel_says_whose_it_is_and_what_it_is_for() {
        let ours = Channels::new(0, "k3f9");
        let rooms = ["r", "a:watermark", "nodes", "probe:n1", "x:room:y", "{s3}:watermark"];
        for name in rooms.iter().filter_map(|name| RoomId::parse(name).ok()) {
            assert_eq!(ours.purpose(&ours.room(&name)), Some(Purpose::Room(name)));
        }
        for shard in Shard::all() {
            assert_eq!(ours.purpose(&ours.watermark(shard)), Some(Purpose::Watermark(shard)));
        }
        assert_eq!(ours.purpose(&ours.nodes()), Some(Purpose::Nodes));
        let probe = Purpose::Probe("a:room:b".to_owned());
        assert_eq!(ours.purpose(&ours.probe("a:room:b")), Some(probe));
    }

    #[test]
    fn what_is_anothers_is_not_ours() {
        let ours = Channels::new(0, "k3f9");
        let others = [Channels::new(1, "k3f9"), Channels::new(0, "k3f"), Channels::new(0, "k3f9x")];
        let room = RoomId::parse("r").unwrap();
        for other in others {
            assert_eq!(ours.purpose(&other.room(&room)), None);
            assert_eq!(ours.purpose(&other.nodes()), None);
        }
        // A room in another shard than its own, a shard that is none, nothing at all.
        let wrong = ["roomcast/0/k3f9:{s1}:room:r", "roomcast/0/k3f9:{s64}:watermark", "", "x"];
        for channel in wrong {
            assert_eq!(ours.purpose(channel), None, "{channel}");
        }
    }
}
