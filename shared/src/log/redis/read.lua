-- A part of a shard's log. KEYS: epoch, log. ARGV: epoch, the id to begin above, most entries, bytes
-- at which it ends. Answers {'', {id, position or '', envelope, load}...}; the load is what was ever
-- appended up to this entry: entries-bytes.
if is_stale() then return {'stale'} end
local answer = {''}
local from = '(' .. ARGV[2]
for _, entry in ipairs(page('XRANGE', KEYS[2], from, tonumber(ARGV[3]), tonumber(ARGV[4]))) do
  local fields = entry[2]
  answer[#answer + 1] = {entry[1], fields[2], fields[4], fields[#fields]}
end
return answer
