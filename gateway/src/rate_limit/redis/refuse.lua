-- Counts how often a user was refused, and blocks the user at the limit.
-- KEYS: the count, the block. ARGV: how many, ms of the count's window, the limit, ms of a block.
-- Answers {ms for which the user is blocked still or 0, 1 if from now on}.
local rest = redis.call('PTTL', KEYS[2])
if rest > 0 then return {rest, 0} end
local count = redis.call('INCRBY', KEYS[1], ARGV[1])
if redis.call('PTTL', KEYS[1]) < 0 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
if count < tonumber(ARGV[3]) then return {0, 0} end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[2], '1', 'PX', ARGV[4])
return {tonumber(ARGV[4]), 1}
