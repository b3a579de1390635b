-- Holds a lease, by Redis's own clock.
-- KEYS: the leases. ARGV: incarnation, for how many milliseconds, 1 where it has to stand still.
-- Answers 1; or 0 where it had to stand and has lapsed or was lost, and nothing is written.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ends = redis.call('ZSCORE', KEYS[1], ARGV[1])
if ARGV[3] == '1' and (not ends or tonumber(ends) < now) then
  return 0
end
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
return 1
