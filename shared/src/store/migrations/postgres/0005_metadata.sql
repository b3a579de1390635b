-- jsonb changes what it is given: numbers, keys, white space. The text of it is kept beside.

-- As the sender wrote it; NULL for an empty object, and in what another program wrote.
ALTER TABLE team_chat_messages ADD COLUMN IF NOT EXISTS metadata_text text;
-- Of the jsonb as we wrote it: where it is another now, another program has changed it, and the
-- text holds no longer.
ALTER TABLE team_chat_messages ADD COLUMN IF NOT EXISTS metadata_hash bigint;
