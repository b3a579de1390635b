-- KEYS[1]: the shard's epoch. ARGV[1]: the epoch that was minted, ARGV[2]: for which token.
local held = redis.call('HMGET', KEYS[1], 'token', 'run')
local run = run_id()
if held[1] ~= ARGV[2] or (run and held[2] ~= run) then return 0 end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1])
redis.call('HDEL', KEYS[1], 'token')
return 1
