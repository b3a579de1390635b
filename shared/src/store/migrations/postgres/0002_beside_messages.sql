-- What is in a room beside its messages, and what is taken out of it again. Works on a database
-- that has the LobeChat fork's tables too.

-- What the message cost, where it cost something.
ALTER TABLE team_chat_messages ADD COLUMN IF NOT EXISTS credits bigint;

-- The edits and deletes that were made, by the ids their senders chose: offered again, they do
-- nothing, however late.
CREATE TABLE IF NOT EXISTS message_changes (
    team_chat_id text NOT NULL,
    user_id      text NOT NULL,
    change_id    text NOT NULL,
    epoch        bigint NOT NULL,
    seq          bigint NOT NULL,
    made_at      timestamptz NOT NULL,
    PRIMARY KEY (team_chat_id, user_id, change_id)
);
CREATE INDEX IF NOT EXISTS message_changes_made ON message_changes (made_at);

-- Movements whose id stands in the ledger with another user or amount.
CREATE TABLE IF NOT EXISTS credit_conflicts (
    number      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id          text NOT NULL,
    user_id     text NOT NULL,
    amount      bigint NOT NULL,
    message_id  text,
    metadata    jsonb NOT NULL,
    accepted_at timestamptz NOT NULL,
    seen_at     timestamptz NOT NULL,
    UNIQUE (id, user_id, amount)
);

CREATE TABLE IF NOT EXISTS revocations (
    kind       text NOT NULL,
    subject    text NOT NULL,
    revoked_at timestamptz NOT NULL,
    until      timestamptz NOT NULL,
    PRIMARY KEY (kind, subject)
);

-- A balance is one row per user. Where another program left several, they become one that holds
-- their sum.
WITH several AS (
    SELECT user_id, (array_agg(ctid))[1] AS kept, sum(balance) AS balance FROM user_credits
    GROUP BY user_id HAVING count(*) > 1
), gone AS (
    DELETE FROM user_credits AS u USING several AS s
    WHERE u.user_id = s.user_id AND u.ctid <> s.kept
)
UPDATE user_credits AS u SET balance = s.balance FROM several AS s WHERE u.ctid = s.kept;
CREATE UNIQUE INDEX IF NOT EXISTS user_credits_of_user ON user_credits (user_id);
-- Another program's table may name its rows by an id of which we know nothing.
DO $$
DECLARE
    kind text;
BEGIN
    SELECT data_type INTO kind FROM information_schema.columns
    WHERE table_schema = current_schema() AND table_name = 'user_credits'
        AND column_name = 'id' AND column_default IS NULL AND is_identity = 'NO';
    IF kind IN ('text', 'character varying') THEN
        ALTER TABLE user_credits ALTER COLUMN id SET DEFAULT gen_random_uuid()::text;
    ELSIF kind = 'uuid' THEN
        ALTER TABLE user_credits ALTER COLUMN id SET DEFAULT gen_random_uuid();
    END IF;
END $$;

CREATE INDEX IF NOT EXISTS read_receipts_furthest
    ON read_receipts (room_id, epoch DESC, seq DESC);
-- For erasing: what is left of somebody's, and where anything of theirs stands.
CREATE INDEX IF NOT EXISTS team_chat_messages_of_user ON team_chat_messages (user_id, deleted_at);
CREATE INDEX IF NOT EXISTS team_chat_messages_of_room
    ON team_chat_messages (team_chat_id) WHERE deleted_at IS NULL;
-- For expiry, which leaves alone what another program wrote and nobody has asked for.
CREATE INDEX IF NOT EXISTS team_chat_messages_created
    ON team_chat_messages (created_at) WHERE epoch IS NOT NULL;
-- For comparing with the ledger.
CREATE INDEX IF NOT EXISTS team_chat_messages_priced
    ON team_chat_messages (id) WHERE credits IS NOT NULL;
CREATE INDEX IF NOT EXISTS dead_letters_place ON dead_letters (shard, log_epoch, log_n);
