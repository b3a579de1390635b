-- Remembers what the database has refused, before anything says that it is persisted.
-- KEYS: of each refused entry its room's list. ARGV: ms that a list is kept, most entries of one,
-- then of each entry its seq, which grows over epochs, and the entry. Idempotent.
for n = 1, #KEYS do
  -- The first write takes no memory, so that a full Redis executes it and all that follow.
  redis.call('ZREMRANGEBYRANK', KEYS[n], 0, -1 - tonumber(ARGV[2]))
  redis.call('ZADD', KEYS[n], ARGV[1 + 2 * n], ARGV[2 + 2 * n])
  redis.call('PEXPIRE', KEYS[n], ARGV[1])
end
return {''}
