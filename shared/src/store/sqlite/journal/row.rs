//! A row of the journal.

use bytes::Bytes;
use rusqlite::Connection;
use uuid::Uuid;
use xxhash_rust::xxh3::Xxh3;

use crate::contract::envelope::{EntryKind, Envelope, EnvelopeError};
use crate::contract::id::{IdError, MessageKey, UserId};
use crate::log::Append;

/// What an entry costs beside what it holds, about, in bytes.
const ENTRY_BYTES: u64 = 256;

/// Why a row is no entry.
#[derive(Debug, thiserror::Error)]
pub(super) enum RowError {
    #[error("its bytes are not those that were written")]
    Checksum,
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    #[error(transparent)]
    Id(#[from] IdError),
    #[error("its digest has another length")]
    Digest(#[from] uuid::Error),
}

/// An entry as it lies in the file.
#[derive(Debug)]
pub(super) struct Row {
    shard: u16,
    room: String,
    pub(super) name: String,
    pub(super) digest: Vec<u8>,
    envelope: Vec<u8>,
    cost: Option<Vec<u8>>,
    author: Option<String>,
    checksum: i64,
}

/// A column's value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Column<'a> {
    Null,
    Integer(i64),
    Text(&'a [u8]),
    Blob(&'a [u8]),
}

/// When a row was noted, whether the log has it, and why it is never offered again.
pub(super) type Noting = (i64, bool, Option<String>);

/// Under which an entry is known: movements of credits have ids of their own. Ids have no spaces.
pub(super) fn name(is_usage: bool, key: &MessageKey) -> String {
    let MessageKey { room, user, id } = key;
    format!("{} {room} {user} {id}", u8::from(is_usage))
}

/// The statement that reads rows.
pub(super) fn select(which: &str) -> String {
    format!(
        "SELECT shard, room, name, digest, envelope, cost, author, checksum
         FROM entries WHERE {which}"
    )
}

impl Row {
    pub(super) fn of(append: &Append) -> Row {
        let Append { envelope, digest, cost, author } = append;
        let encode =
            |envelope: &Envelope| envelope.encode().expect("a checked message fits in an envelope");
        let Envelope { room, user, kind, .. } = envelope;
        let key = MessageKey { room: room.clone(), user: user.clone(), id: envelope.key().clone() };
        let row = Row {
            shard: room.shard().number(),
            room: room.as_str().to_owned(),
            name: name(*kind == EntryKind::Usage, &key),
            digest: digest.as_bytes().to_vec(),
            envelope: encode(envelope),
            cost: cost.as_ref().map(encode),
            author: author.as_ref().map(|author| author.as_str().to_owned()),
            checksum: 0,
        };
        Row { checksum: row.sum(), ..row }
    }

    fn sum(&self) -> i64 {
        let mut sum = Xxh3::new();
        sum.update(&self.digest);
        sum.update(&self.envelope);
        // A part that is missing is another than one that is empty.
        sum.update(&[u8::from(self.cost.is_some()), u8::from(self.author.is_some())]);
        sum.update(self.cost.as_deref().unwrap_or_default());
        sum.update(self.author.as_deref().unwrap_or_default().as_bytes());
        sum.digest().cast_signed()
    }

    /// Whether its bytes are those that were written.
    pub(super) fn is_whole(&self) -> bool {
        self.checksum == self.sum()
    }

    /// What it costs to keep.
    pub(super) fn bytes(&self) -> u64 {
        let cost = self.cost.as_ref().map_or(0, Vec::len);
        ENTRY_BYTES + self.name.len() as u64 + self.envelope.len() as u64 + cost as u64
    }

    pub(super) fn read(row: &rusqlite::Row<'_>) -> Result<Row, rusqlite::Error> {
        Ok(Row {
            shard: row.get(0)?,
            room: row.get(1)?,
            name: row.get(2)?,
            digest: row.get(3)?,
            envelope: row.get(4)?,
            cost: row.get(5)?,
            author: row.get(6)?,
            checksum: row.get(7)?,
        })
    }

    /// The row of these, in the order of the table; nothing where they are others.
    pub(super) fn from_columns(columns: &[Column<'_>]) -> Option<(Row, Noting)> {
        use Column::{Blob, Integer, Null, Text};
        let [
            Null,
            Integer(shard),
            Text(room),
            Text(name),
            Blob(digest),
            Blob(envelope),
            cost,
            author,
            Integer(noted_at),
            Integer(_),
            Integer(checksum),
            Integer(placed),
            refused,
        ] = columns
        else {
            return None;
        };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let optional = |column: &Column<'_>| match column {
            Text(bytes) => text(bytes),
            Null | Integer(_) | Blob(_) => None,
        };
        let row = Row {
            shard: u16::try_from(*shard).ok()?,
            room: text(room)?,
            name: text(name)?,
            digest: digest.to_vec(),
            envelope: envelope.to_vec(),
            cost: if let Blob(cost) = cost { Some(cost.to_vec()) } else { None },
            author: optional(author),
            checksum: *checksum,
        };
        Some((row, (*noted_at, *placed == 1, optional(refused))))
    }

    /// What is to be offered to the log.
    pub(super) fn append(self) -> Result<Append, RowError> {
        if !self.is_whole() {
            return Err(RowError::Checksum);
        }
        let decode = |raw: Vec<u8>| Envelope::decode(&Bytes::from(raw));
        Ok(Append {
            digest: Uuid::from_slice(&self.digest)?,
            envelope: decode(self.envelope)?,
            cost: self.cost.map(decode).transpose()?,
            author: self.author.as_deref().map(UserId::parse).transpose()?,
        })
    }

    /// Puts it behind the others, or nothing where its name stands.
    pub(super) fn insert(
        &self,
        to: &Connection,
        (noted_at, placed, refused): Noting,
    ) -> Result<bool, rusqlite::Error> {
        let sql = "INSERT INTO entries
            (shard, room, name, digest, envelope, cost, author, noted_at, placed, refused, bytes,
             checksum)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
            ON CONFLICT (name) DO NOTHING";
        let inserted = to.prepare_cached(sql)?.execute((
            self.shard,
            &self.room,
            &self.name,
            &self.digest,
            &self.envelope,
            &self.cost,
            &self.author,
            noted_at,
            placed,
            refused,
            self.bytes(),
            self.checksum,
        ))?;
        Ok(inserted > 0)
    }
}
