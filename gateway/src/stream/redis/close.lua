-- Remembers how an answer was closed, and forgets the rest of it.
-- KEYS: the room's answers, the answer's text, the shard's lives, how it was closed.
-- ARGV: id, its member of the lives, how it was closed, ms that this is remembered.
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('DEL', KEYS[2])
redis.call('ZREM', KEYS[3], ARGV[2])
redis.call('SET', KEYS[4], ARGV[3], 'PX', ARGV[4])
return 'done'
