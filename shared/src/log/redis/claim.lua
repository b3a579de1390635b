-- KEYS[1]: the shard's epoch. ARGV[1]: the least epoch the caller takes, ARGV[2]: a fresh token,
-- ARGV[3]: the caller's deployment. Answers {'foreign', whose it is} where that is another.
-- A token stands where there is no epoch of this run that is high enough; the first one stays.
-- Answers {'token', token} or {'armed', epoch, when it was minted, whether the shard was quiet then}.
local held = redis.call('HMGET', KEYS[1], 'epoch', 'run', 'token', 'minted', 'quiet', 'deployment')
if held[6] and held[6] ~= ARGV[3] then return {'foreign', held[6]} end
local run = run_id() or held[2] or 'unknown'
if held[2] == run then
  if held[1] and tonumber(held[1]) >= tonumber(ARGV[1]) then
    return {'armed', held[1], held[4] or '0', held[5] or '0'}
  end
  if held[3] then return {'token', held[3]} end
end
redis.call('HDEL', KEYS[1], 'epoch')
redis.call('HSET', KEYS[1], 'run', run, 'token', ARGV[2], 'deployment', ARGV[3])
return {'token', ARGV[2]}
