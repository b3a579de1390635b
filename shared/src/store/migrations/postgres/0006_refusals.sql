-- What was refused is told as an entry of its room, can be driven again through the log, and what
-- another program writes into a room that is in use gets its place there too.

-- Of a change; NULL of a message.
ALTER TABLE dead_letters ADD COLUMN IF NOT EXISTS change_id     text;
-- Where the room says that it was refused; NULL until that is in the database.
ALTER TABLE dead_letters ADD COLUMN IF NOT EXISTS refusal_epoch bigint;
ALTER TABLE dead_letters ADD COLUMN IF NOT EXISTS refusal_seq   bigint;
-- When somebody wanted it driven again; a worker does it.
ALTER TABLE dead_letters ADD COLUMN IF NOT EXISTS driven_at     timestamptz;

CREATE INDEX IF NOT EXISTS dead_letters_identity
    ON dead_letters (room_id, user_id, message_id) WHERE epoch IS NOT NULL;
CREATE INDEX IF NOT EXISTS dead_letters_refusal
    ON dead_letters (room_id, refusal_epoch, refusal_seq) WHERE refusal_epoch IS NOT NULL;
CREATE INDEX IF NOT EXISTS dead_letters_untold
    ON dead_letters (shard, id) WHERE refusal_epoch IS NULL AND epoch IS NOT NULL;
CREATE INDEX IF NOT EXISTS dead_letters_driven
    ON dead_letters (driven_at) WHERE driven_at IS NOT NULL;

-- Nodes read what is new of them.
CREATE INDEX IF NOT EXISTS revocations_revoked ON revocations (revoked_at);

-- What another program has written lately, wherever.
CREATE INDEX IF NOT EXISTS team_chat_messages_strange
    ON team_chat_messages (created_at) WHERE epoch IS NULL;
