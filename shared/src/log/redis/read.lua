-- A part of a shard's log. KEYS: epoch, log. ARGV: epoch, the id to begin above, most entries.
-- Answers {'', {id, position or '', envelope}...}.
if is_stale() then return {'stale'} end
local answer = {''}
for _, entry in ipairs(redis.call('XRANGE', KEYS[2], '(' .. ARGV[2], '+', 'COUNT', ARGV[3])) do
  answer[#answer + 1] = {entry[1], entry[2][2], entry[2][4]}
end
return answer
