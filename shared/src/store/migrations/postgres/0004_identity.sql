-- A message is (room, sender, the id that its sender chose). The row's own id is that one where it
-- was free, else a random one, so that nobody can take a row away from anybody.

-- NULL in what another program wrote: such a row is known by its id.
ALTER TABLE team_chat_messages ADD COLUMN IF NOT EXISTS client_id text;

-- Partial, so that building it on a large old table touches no row of it.
CREATE UNIQUE INDEX IF NOT EXISTS team_chat_messages_identity
    ON team_chat_messages (team_chat_id, client_id, user_id) WHERE client_id IS NOT NULL;
DROP INDEX IF EXISTS team_chat_messages_renamed;
