-- A message is (room, sender, the id that its sender chose). The row's own id is that one where it
-- was free, else a random one, so that nobody can take a row away from anybody.

DROP INDEX team_chat_messages_renamed;
ALTER TABLE team_chat_messages DROP COLUMN renamed_from;
ALTER TABLE team_chat_messages ADD COLUMN client_id TEXT;
UPDATE team_chat_messages SET client_id = id;
CREATE UNIQUE INDEX team_chat_messages_identity
    ON team_chat_messages (team_chat_id, client_id, user_id);
