-- What a row costs is mostly its entries in indexes.

-- The id first, so that what is new stands beside what is new, in whatever room it was said.
ALTER INDEX IF EXISTS team_chat_messages_identity RENAME TO team_chat_messages_identity_by_room;
CREATE UNIQUE INDEX team_chat_messages_identity
    ON team_chat_messages (client_id, team_chat_id, user_id) WHERE client_id IS NOT NULL;
DROP INDEX IF EXISTS team_chat_messages_identity_by_room;

-- A room is erased in the order of its places.
DROP INDEX IF EXISTS team_chat_messages_of_room;
