-- Forgets of a room's ring what is persisted, and has every node forget what it remembers.
-- KEYS: epoch, head, ring. ARGV: epoch, the nodes' channel, what they are told.
if is_stale() then return {'stale'} end
local held = redis.call('HMGET', KEYS[2], 'pepoch', 'pseq')
if held[1] then
  local after = held[1] .. '-' .. string.format('%.0f', tonumber(held[2]) + 1)
  redis.call('XTRIM', KEYS[3], 'MINID', after)
end
redis.pcall('PUBLISH', ARGV[2], ARGV[3])
return {''}
