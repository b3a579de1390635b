//! What the database holds, in the form the checker reads.

use crate::position::Position;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::time::Duration;

/// One stored message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The room.
    pub room: String,
    /// The epoch of its position.
    pub epoch: u64,
    /// The seq of its position.
    pub seq: u64,
    /// The message's id.
    pub id: String,
    /// Who sent it.
    pub user: String,
    /// What it says.
    pub content: String,
}

impl Row {
    /// Where it stands.
    pub fn position(&self) -> Position {
        Position::new(self.epoch, self.seq)
    }
}

const SELECT: &str = "SELECT team_chat_id, epoch, seq, id, user_id, content \
                      FROM team_chat_messages ORDER BY team_chat_id, epoch, seq";

/// All messages in the `roomcast.db` of an embedded gateway, which may be running: the file is
/// opened read-only, and nothing is locked for longer than the reading takes.
pub fn read_sqlite(data_dir: &Path) -> rusqlite::Result<Vec<Row>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database = Connection::open_with_flags(data_dir.join("roomcast.db"), flags)?;
    database.busy_timeout(Duration::from_secs(5))?;
    let mut select = database.prepare(SELECT)?;
    let rows = select.query_map([], |row| {
        Ok(Row {
            room: row.get(0)?,
            epoch: row.get::<_, i64>(1)?.cast_unsigned(),
            seq: row.get::<_, i64>(2)?.cast_unsigned(),
            id: row.get(3)?,
            user: row.get(4)?,
            content: row.get(5)?,
        })
    })?;
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_while_a_writer_has_the_file_open() {
        let folder = tempfile::tempdir().unwrap();
        let writer = Connection::open(folder.path().join("roomcast.db")).unwrap();
        writer
            .execute_batch(
                "PRAGMA journal_mode = WAL;
                 CREATE TABLE team_chat_messages (id TEXT PRIMARY KEY, team_chat_id TEXT,
                     user_id TEXT, content TEXT, epoch INTEGER, seq INTEGER);
                 INSERT INTO team_chat_messages VALUES ('b', 'r', 'u', 'two', 1, 2);
                 INSERT INTO team_chat_messages VALUES ('a', 'r', 'u', 'one', 1, 1);
                 BEGIN IMMEDIATE;
                 INSERT INTO team_chat_messages VALUES ('c', 'r', 'u', 'not yet', 1, 3);",
            )
            .unwrap();
        let rows = read_sqlite(folder.path()).unwrap();
        let ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
        assert_eq!(ids, ["a", "b"]);
        assert_eq!(rows[1].position(), Position::new(1, 2));
    }
}
