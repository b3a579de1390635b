CREATE TABLE entries (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    shard INTEGER NOT NULL,
    room TEXT NOT NULL,
    -- What stands once, whoever offers it again.
    name TEXT NOT NULL UNIQUE,
    digest BLOB NOT NULL,
    envelope BLOB NOT NULL,
    cost BLOB,
    author TEXT,
    -- When it came here, in Unix milliseconds.
    noted_at INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    -- Over all that is offered again.
    checksum INTEGER NOT NULL,
    -- The log has it, and the database is not known to.
    placed INTEGER NOT NULL DEFAULT 0,
    -- Why it is never offered again.
    refused TEXT
) STRICT;

CREATE INDEX entries_of_shard ON entries (shard, placed, n) WHERE refused IS NULL;
CREATE INDEX entries_refused ON entries (n) WHERE refused IS NOT NULL;
CREATE INDEX entries_of_room ON entries (room, n) WHERE placed = 0 AND refused IS NULL;
