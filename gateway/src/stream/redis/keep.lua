-- Keeps a piece of an answer that is written through this node.
-- KEYS: the room's answers, the answer's text, the shard's lives, how it was closed.
-- ARGV: id, its member of the lives, node, byte at which the piece begins, piece, ms that it is kept.
-- Answers 'done', 'moved' (to another node), 'closed', or 'lost': something before the piece is not
-- there.
local id, member, node, from = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local held = redis.call('HGET', KEYS[1], id)
if not held then
  return redis.call('EXISTS', KEYS[4]) == 1 and 'closed' or 'lost'
end
if string.match(held, '^%S+') ~= node then return 'moved' end
local length = redis.call('STRLEN', KEYS[2])
if length < from then return 'lost' end
if #ARGV[5] > 0 then
  if length == from then
    redis.call('APPEND', KEYS[2], ARGV[5])
  else
    -- Offered again, because the answer to the first time was lost.
    redis.call('SETRANGE', KEYS[2], from, ARGV[5])
  end
end
local time = redis.call('TIME')
redis.call('ZADD', KEYS[3], time[1] * 1000 + math.floor(time[2] / 1000), member)
for key = 1, 3 do redis.call('PEXPIRE', KEYS[key], ARGV[6]) end
return 'done'
