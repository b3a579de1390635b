-- What is in a room beside its messages, and what is taken out of it again.

-- What the message cost, where it cost something.
ALTER TABLE team_chat_messages ADD COLUMN credits INTEGER;

-- The edits and deletes that were made, by the ids their senders chose: offered again, they do
-- nothing, however late.
CREATE TABLE message_changes (
    team_chat_id TEXT NOT NULL,
    user_id      TEXT NOT NULL,
    change_id    TEXT NOT NULL,
    epoch        INTEGER NOT NULL,
    seq          INTEGER NOT NULL,
    made_at      INTEGER NOT NULL,
    PRIMARY KEY (team_chat_id, user_id, change_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX message_changes_made ON message_changes (made_at);

-- Movements whose id stands in the ledger with another user or amount.
CREATE TABLE credit_conflicts (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT NOT NULL,
    user_id     TEXT NOT NULL,
    amount      INTEGER NOT NULL,
    message_id  TEXT,
    metadata    TEXT NOT NULL,
    accepted_at INTEGER NOT NULL,
    seen_at     INTEGER NOT NULL,
    UNIQUE (id, user_id, amount)
) STRICT;

CREATE TABLE revocations (
    kind       TEXT NOT NULL,
    subject    TEXT NOT NULL,
    revoked_at INTEGER NOT NULL,
    until      INTEGER NOT NULL,
    PRIMARY KEY (kind, subject)
) STRICT, WITHOUT ROWID;

CREATE INDEX read_receipts_furthest ON read_receipts (room_id, epoch DESC, seq DESC);
-- For erasing: what is left of somebody's, and where anything of theirs stands.
CREATE INDEX team_chat_messages_of_user ON team_chat_messages (user_id, deleted_at);
CREATE INDEX team_chat_messages_of_room ON team_chat_messages (team_chat_id)
    WHERE deleted_at IS NULL;
-- For expiry.
CREATE INDEX team_chat_messages_created ON team_chat_messages (created_at);
-- For comparing with the ledger.
CREATE INDEX team_chat_messages_priced ON team_chat_messages (id) WHERE credits IS NOT NULL;
CREATE INDEX dead_letters_place ON dead_letters (shard, log_epoch, log_n);
