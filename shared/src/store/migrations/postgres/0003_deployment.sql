-- Whose this database is, so that nothing that is another's is taken for its own.

-- One row. `name` is in every channel and every key of an epoch in Redis; `speaks` is the version
-- of keys, channels and envelopes; `refused` says why nobody may work under this name any more.
CREATE TABLE IF NOT EXISTS deployment (
    one      boolean PRIMARY KEY DEFAULT true CHECK (one),
    name     text NOT NULL,
    speaks   integer NOT NULL,
    named_at timestamptz NOT NULL,
    refused  text
);
INSERT INTO deployment (name, speaks, named_at)
VALUES (left(replace(gen_random_uuid()::text, '-', ''), 12), 1, clock_timestamp())
ON CONFLICT (one) DO NOTHING;

-- Epochs that Redis held and this database never minted.
CREATE TABLE IF NOT EXISTS foreign_epochs (
    shard   smallint NOT NULL,
    epoch   bigint NOT NULL,
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (shard, epoch)
);

-- When Redis last did its work for each process: whoever is without it sees here whether others are.
CREATE TABLE IF NOT EXISTS process_beats (
    process     text PRIMARY KEY,
    redis_ok_at timestamptz,
    seen_at     timestamptz NOT NULL
);
