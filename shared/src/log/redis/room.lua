-- A part of a room's ring. KEYS: epoch, head, ring. ARGV: epoch, the position to begin above, most
-- entries. Answers {'', head, persisted, first of the newest epoch or '', {id, envelope}...}.
if is_stale() then return {'stale'} end
local held = redis.call('HMGET', KEYS[2], 'epoch', 'seq', 'pepoch', 'pseq', 'compared')
if not held[1] or held[5] ~= ARGV[1] then return {'unhydrated'} end
local answer = {'', held[1] .. '-' .. held[2], held[3] .. '-' .. held[4], ''}
local first = redis.call('XRANGE', KEYS[3], held[1] .. '-0', '+', 'COUNT', 1)[1]
if first then answer[4] = first[1] end
if tonumber(ARGV[3]) > 0 then
  for _, entry in ipairs(redis.call('XRANGE', KEYS[3], '(' .. ARGV[2], '+', 'COUNT', ARGV[3])) do
    answer[#answer + 1] = {entry[1], entry[2][2]}
  end
end
return answer
