-- Takes an answer for a node, or begins it.
-- KEYS: the room's answers, the answer's text, the shard's lives, how it was closed.
-- ARGV: id, its member of the lives, node, user or '' for anybody, beginning or '' to begin none,
-- most answers of a room, ms that it is kept, ms of silence or '' to take it from the living too,
-- most answers of a user in a room.
-- Answers {'begun'}, {'open', the former node, beginning, text}, {'closed', how}, {'foreign'},
-- {'full'}, {'full for user'}, {'lively'} or {'unknown'}.
local id, member, node, user, beginning = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function hold(of, began)
  redis.call('HSET', KEYS[1], id, node .. ' ' .. of .. ' ' .. began)
  redis.call('ZADD', KEYS[3], now, member)
  for key = 1, 3 do redis.call('PEXPIRE', KEYS[key], ARGV[7]) end
end

local held = redis.call('HGET', KEYS[1], id)
if not held then
  redis.call('ZREM', KEYS[3], member)
  local closed = redis.call('GET', KEYS[4])
  if closed then return {'closed', closed} end
  if beginning == '' then return {'unknown'} end
  if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[6]) then return {'full'} end
  local own = 0
  for _, other in ipairs(redis.call('HVALS', KEYS[1])) do
    if string.match(other, '^%S+ (%S+) ') == user then own = own + 1 end
  end
  if own >= tonumber(ARGV[9]) then return {'full for user'} end
  -- What an answer that was forgotten left behind is none of this one's.
  redis.call('DEL', KEYS[2])
  hold(user, beginning)
  return {'begun'}
end
local former, of, began = string.match(held, '^(%S+) (%S+) (.*)$')
if user ~= '' and user ~= of then return {'foreign'} end
if ARGV[8] ~= '' then
  local touched = tonumber(redis.call('ZSCORE', KEYS[3], member) or 0)
  if now - touched < tonumber(ARGV[8]) then return {'lively'} end
end
hold(of, began)
return {'open', former, began, redis.call('GET', KEYS[2]) or ''}
