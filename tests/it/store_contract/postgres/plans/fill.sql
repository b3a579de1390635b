-- 500 rooms of 40 messages, of which each fifth was edited; each room has a sender of its own.
INSERT INTO team_chat_messages (id, team_chat_id, user_id, content, client_id, send_time,
    created_at, epoch, seq, changed_epoch, changed_seq, change_id, credits)
SELECT name, room, sender, repeat('x', 100), name, at, at, 1, seq, 1,
    CASE WHEN edited THEN 1000 + seq ELSE seq END, CASE WHEN edited THEN 'e-' || name END,
    CASE WHEN seq = 7 THEN 3 END
FROM (SELECT 'r' || r || '-' || seq AS name, 'r' || r AS room, 'u' || r AS sender, seq,
          seq % 5 = 0 AS edited,
          timestamptz '2025-01-01Z' + (seq * 500 + r) * interval '1 second' AS at
      FROM generate_series(1, 40) AS seq, generate_series(0, 499) AS r) AS said;

-- What another program has written lately.
INSERT INTO team_chat_messages (id, team_chat_id, user_id, content)
SELECT 'other-' || n, 'other' || n % 10, 'u' || n % 500, 'x' FROM generate_series(1, 500) AS n;

INSERT INTO message_changes (team_chat_id, user_id, change_id, epoch, seq, made_at)
SELECT team_chat_id, user_id, change_id, 1, changed_seq, created_at
FROM team_chat_messages WHERE change_id IS NOT NULL;
INSERT INTO room_heads (room_id, epoch, seq)
SELECT 'r' || r, 1, 1040 FROM generate_series(0, 499) AS r;
INSERT INTO read_receipts (room_id, user_id, epoch, seq, read_at)
SELECT 'r' || r, 'u' || (r + n) % 500, 1, n, now()
FROM generate_series(0, 499) AS r, generate_series(1, 20) AS n;
INSERT INTO room_members (room_id, user_id, role)
SELECT 'r' || r, 'u' || (r + n) % 500, CASE n % 10 WHEN 0 THEN 'removed' ELSE 'member' END
FROM generate_series(0, 499) AS r, generate_series(1, 20) AS n;
INSERT INTO credits (id, user_id, amount)
SELECT 'c' || n, 'u' || n % 500, 1 FROM generate_series(1, 20000) AS n;
INSERT INTO user_credits (user_id, balance) SELECT 'u' || u, 40 FROM generate_series(0, 499) AS u;
INSERT INTO epochs (shard, epoch, token, minted_at, quiet)
SELECT s, e, gen_random_uuid(), now(), true
FROM generate_series(0, 63) AS s, generate_series(1, 20) AS e;
INSERT INTO dead_letters (shard, log_epoch, log_n, epoch, seq, room_id, user_id, message_id, raw,
    code, error, refusal_epoch, refusal_seq)
SELECT n % 64, 1, n, 1, n, 'r' || n % 500, 'u' || n % 500, 'dead-' || n, '\x00', '23514', 'x',
    1, 2000 + n
FROM generate_series(1, 5000) AS n;
ANALYZE;
