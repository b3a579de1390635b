-- Works on an empty database, and on one that has the LobeChat fork's tables: what is there stays
-- as it is, and an INSERT that knows nothing of our columns still works.

CREATE TABLE IF NOT EXISTS team_chat_messages (
    id           text PRIMARY KEY,
    team_chat_id text NOT NULL,
    user_id      text NOT NULL,
    content      text,
    message_type text DEFAULT 'user',
    metadata     jsonb DEFAULT '{}',
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    accessed_at  timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE team_chat_messages
    ADD COLUMN IF NOT EXISTS content       text,
    ADD COLUMN IF NOT EXISTS message_type  text DEFAULT 'user',
    ADD COLUMN IF NOT EXISTS metadata      jsonb DEFAULT '{}',
    ADD COLUMN IF NOT EXISTS created_at    timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN IF NOT EXISTS updated_at    timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN IF NOT EXISTS accessed_at   timestamptz NOT NULL DEFAULT now(),
    -- NULL in the tombstone of a message that never came: who sent it, and when, is not known.
    ADD COLUMN IF NOT EXISTS send_time     timestamptz,
    -- NULL in a row that another program wrote, until its room is hydrated: see heads.rs.
    ADD COLUMN IF NOT EXISTS epoch         bigint,
    ADD COLUMN IF NOT EXISTS seq           bigint,
    -- The place of the last change; the message's own place as long as there is none.
    ADD COLUMN IF NOT EXISTS changed_epoch bigint,
    ADD COLUMN IF NOT EXISTS changed_seq   bigint,
    -- NULL as long as there is no change.
    ADD COLUMN IF NOT EXISTS change_id     text,
    ADD COLUMN IF NOT EXISTS edited_at     timestamptz,
    ADD COLUMN IF NOT EXISTS deleted_at    timestamptz;

-- Partial, so that building them on a large old table touches no row of it.
CREATE UNIQUE INDEX IF NOT EXISTS team_chat_messages_position
    ON team_chat_messages (team_chat_id, epoch, seq) WHERE epoch IS NOT NULL;
CREATE INDEX IF NOT EXISTS team_chat_messages_changed
    ON team_chat_messages (team_chat_id, changed_epoch, changed_seq)
    WHERE changed_epoch IS NOT NULL;
-- Cut, because a client may write any text under our key and an index entry has a limit.
CREATE INDEX IF NOT EXISTS team_chat_messages_renamed
    ON team_chat_messages (team_chat_id, left(metadata ->> 'roomcast.id', 128))
    WHERE metadata ? 'roomcast.id';
CREATE INDEX IF NOT EXISTS team_chat_messages_unplaced
    ON team_chat_messages (team_chat_id, created_at, id COLLATE "C") WHERE epoch IS NULL;

-- The ledger; rows are only ever added.
CREATE TABLE IF NOT EXISTS credits (
    id         text PRIMARY KEY,
    user_id    text NOT NULL,
    message_id text,
    amount     bigint NOT NULL,
    timestamp  timestamptz NOT NULL DEFAULT now(),
    metadata   jsonb DEFAULT '{}'
);
ALTER TABLE credits
    ADD COLUMN IF NOT EXISTS message_id text,
    ADD COLUMN IF NOT EXISTS timestamp  timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN IF NOT EXISTS metadata   jsonb DEFAULT '{}';
CREATE INDEX IF NOT EXISTS credits_user ON credits (user_id, timestamp);

CREATE TABLE IF NOT EXISTS user_credits (
    user_id      text PRIMARY KEY,
    balance      bigint NOT NULL DEFAULT 0,
    last_updated timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE user_credits
    ADD COLUMN IF NOT EXISTS balance      bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS last_updated timestamptz NOT NULL DEFAULT now();

CREATE TABLE IF NOT EXISTS room_members (
    room_id  text NOT NULL,
    user_id  text NOT NULL,
    role     text NOT NULL,
    added_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (room_id, user_id)
);
CREATE INDEX IF NOT EXISTS room_members_user ON room_members (user_id);

CREATE TABLE IF NOT EXISTS read_receipts (
    room_id    text NOT NULL,
    user_id    text NOT NULL,
    epoch      bigint NOT NULL,
    seq        bigint NOT NULL,
    message_id text,
    read_at    timestamptz NOT NULL,
    PRIMARY KEY (room_id, user_id)
);

CREATE TABLE IF NOT EXISTS room_heads (
    room_id text PRIMARY KEY,
    epoch   bigint NOT NULL,
    seq     bigint NOT NULL
);

-- One row per shard, all there from the beginning. Locking one locks everything of its rooms.
CREATE TABLE IF NOT EXISTS shards (
    shard        smallint PRIMARY KEY,
    -- The last entry of the shard's log that was committed.
    cursor_epoch bigint NOT NULL DEFAULT 0,
    cursor_n     bigint NOT NULL DEFAULT 0,
    -- When the youngest entry of the shard was accepted; NULL before the first.
    newest_at    timestamptz,
    lease_owner  text,
    lease_until  timestamptz
);

-- The live workers, by their own names.
CREATE TABLE IF NOT EXISTS sync_workers (
    owner text PRIMARY KEY,
    until timestamptz NOT NULL
);

CREATE TABLE IF NOT EXISTS epochs (
    shard     smallint NOT NULL REFERENCES shards (shard),
    epoch     bigint NOT NULL,
    token     uuid NOT NULL,
    minted_at timestamptz NOT NULL,
    quiet     boolean NOT NULL,
    PRIMARY KEY (shard, epoch),
    UNIQUE (shard, token)
);

CREATE TABLE IF NOT EXISTS dead_letters (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shard         smallint NOT NULL REFERENCES shards (shard),
    log_epoch     bigint NOT NULL,
    log_n         bigint NOT NULL,
    epoch         bigint,
    seq           bigint,
    room_id       text,
    user_id       text,
    message_id    text,
    raw           bytea NOT NULL,
    code          text NOT NULL,
    error         text NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT now()
);
