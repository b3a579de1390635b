-- Times are integers: milliseconds since 1970-01-01T00:00:00Z. Positions are integers below 2^53.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE team_chat_messages (
    id            TEXT PRIMARY KEY NOT NULL,
    team_chat_id  TEXT NOT NULL,
    user_id       TEXT NOT NULL,
    content       TEXT NOT NULL,
    message_type  TEXT NOT NULL,
    metadata      TEXT NOT NULL,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    accessed_at   INTEGER NOT NULL,
    -- NULL in the tombstone of a message that never came: who sent it, and when, is not known.
    send_time     INTEGER,
    epoch         INTEGER NOT NULL,
    seq           INTEGER NOT NULL,
    -- The place of the last change; the message's own place as long as there is none.
    changed_epoch INTEGER NOT NULL,
    changed_seq   INTEGER NOT NULL,
    -- NULL as long as there is no change.
    change_id     TEXT,
    edited_at     INTEGER,
    deleted_at    INTEGER,
    -- The client's id of a message that stands under a derived one. No JSON function may see what
    -- it could refuse: its error would not be one of the data.
    renamed_from  TEXT GENERATED ALWAYS AS (
        CASE WHEN instr(metadata, '"roomcast.id"') > 0 AND json_valid(metadata)
             THEN json_extract(metadata, '$."roomcast.id"') END
    ) VIRTUAL
) STRICT;

CREATE UNIQUE INDEX team_chat_messages_position
    ON team_chat_messages (team_chat_id, epoch, seq);
CREATE INDEX team_chat_messages_changed
    ON team_chat_messages (team_chat_id, changed_epoch, changed_seq);
CREATE INDEX team_chat_messages_renamed
    ON team_chat_messages (team_chat_id, renamed_from) WHERE renamed_from IS NOT NULL;

-- The ledger; rows are only ever added.
CREATE TABLE credits (
    id         TEXT PRIMARY KEY NOT NULL,
    user_id    TEXT NOT NULL,
    message_id TEXT,
    amount     INTEGER NOT NULL,
    timestamp  INTEGER NOT NULL,
    metadata   TEXT NOT NULL
) STRICT;
CREATE INDEX credits_user ON credits (user_id, timestamp);

CREATE TABLE user_credits (
    user_id      TEXT PRIMARY KEY NOT NULL,
    balance      INTEGER NOT NULL,
    last_updated INTEGER NOT NULL
) STRICT;

CREATE TABLE room_members (
    room_id  TEXT NOT NULL,
    user_id  TEXT NOT NULL,
    role     TEXT NOT NULL,
    added_at INTEGER NOT NULL,
    PRIMARY KEY (room_id, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX room_members_user ON room_members (user_id);

CREATE TABLE read_receipts (
    room_id    TEXT NOT NULL,
    user_id    TEXT NOT NULL,
    epoch      INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    message_id TEXT,
    read_at    INTEGER NOT NULL,
    PRIMARY KEY (room_id, user_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE room_heads (
    room_id TEXT PRIMARY KEY NOT NULL,
    epoch   INTEGER NOT NULL,
    seq     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One row per shard, all there from the beginning.
CREATE TABLE shards (
    shard        INTEGER PRIMARY KEY NOT NULL,
    -- The last entry of the shard's log that was committed.
    cursor_epoch INTEGER NOT NULL DEFAULT 0,
    cursor_n     INTEGER NOT NULL DEFAULT 0,
    -- When the youngest entry of the shard was accepted; NULL before the first.
    newest_at    INTEGER,
    lease_owner  TEXT,
    lease_until  INTEGER
) STRICT;

CREATE TABLE epochs (
    shard     INTEGER NOT NULL REFERENCES shards (shard),
    epoch     INTEGER NOT NULL,
    token     TEXT NOT NULL,
    minted_at INTEGER NOT NULL,
    quiet     INTEGER NOT NULL,
    PRIMARY KEY (shard, epoch),
    UNIQUE (shard, token)
) STRICT, WITHOUT ROWID;

CREATE TABLE dead_letters (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    shard         INTEGER NOT NULL REFERENCES shards (shard),
    log_epoch     INTEGER NOT NULL,
    log_n         INTEGER NOT NULL,
    epoch         INTEGER,
    seq           INTEGER,
    room_id       TEXT,
    user_id       TEXT,
    message_id    TEXT,
    raw           BLOB NOT NULL,
    code          TEXT NOT NULL,
    error         TEXT NOT NULL,
    first_seen_at INTEGER NOT NULL
) STRICT;
