-- Forgets of a room's ring what is persisted. KEYS: epoch, head, ring. ARGV: epoch.
if is_stale() then return {'stale'} end
local held = redis.call('HMGET', KEYS[2], 'pepoch', 'pseq')
if held[1] then
  local after = held[1] .. '-' .. string.format('%.0f', tonumber(held[2]) + 1)
  redis.call('XTRIM', KEYS[3], 'MINID', after)
end
return {''}
