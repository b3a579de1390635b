-- A part of a room's ring. KEYS: epoch, head, ring. ARGV: epoch, the position to begin above, or '+'
-- for the last entries, most entries, bytes at which it ends. Answers {'', head, persisted, first of
-- the newest epoch or '', '1' where it ends before the ring does, {id, envelope}...}, the last
-- entries from behind.
if is_stale() then return {'stale'} end
local held = redis.call('HMGET', KEYS[2], 'epoch', 'seq', 'pepoch', 'pseq', 'compared')
if not held[1] or held[5] ~= ARGV[1] then return {'unhydrated'} end
local answer = {'', held[1] .. '-' .. held[2], held[3] .. '-' .. held[4], '', ''}
local first = redis.call('XRANGE', KEYS[3], held[1] .. '-0', '+', 'COUNT', 1)[1]
if first then answer[4] = first[1] end
local from, command = '(' .. ARGV[2], 'XRANGE'
if ARGV[2] == '+' then from, command = '+', 'XREVRANGE' end
local entries, more = page(command, KEYS[3], from, tonumber(ARGV[3]), tonumber(ARGV[4]))
if more then answer[5] = '1' end
for _, entry in ipairs(entries) do
  answer[#answer + 1] = {entry[1], entry[2][2]}
end
return answer
