-- Takes uses of a user's allowance, in a window that begins with the first.
-- KEYS: the count. ARGV: how many are wanted, how many there are in a window, ms of a window.
-- Answers {how many are given, ms until the window ends, 1 if it begins now}.
local used = tonumber(redis.call('GET', KEYS[1]) or '0')
local given = math.min(tonumber(ARGV[1]), tonumber(ARGV[2]) - used)
if given <= 0 then return {0, math.max(redis.call('PTTL', KEYS[1]), 1), 0} end
redis.call('INCRBY', KEYS[1], given)
-- A count without an end would refuse for ever.
if used == 0 or redis.call('PTTL', KEYS[1]) < 0 then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return {given, redis.call('PTTL', KEYS[1]), used == 0 and 1 or 0}
