-- Appends a shard's waiting entries in order, until the first that cannot be done.
-- KEYS: epoch, log, then head and ring of each room, then the id of each entry.
-- ARGV: epoch, cap of the log, PUBLISH or SPUBLISH, count of rooms, the channel of each room, then
-- for each entry: its room (from 1), the digest of its content, its envelope.
-- Answers {stop, {epoch, seq, duplicate, same content, persisted epoch, persisted seq}...}, and for
-- an id that the database refused {'refused', why}.
if is_stale() then return {'stale'} end
local epoch, cap, rooms = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[4])
local length = redis.call('XLEN', KEYS[2])
local heads = {}

local function head_of(room)
  if heads[room] ~= nil then return heads[room] end
  local held = redis.call('HMGET', KEYS[1 + 2 * room], 'epoch', 'seq', 'pepoch', 'pseq', 'expiring')
  if not held[1] then
    heads[room] = false
    return false
  end
  local head = {
    seq = tonumber(held[2]), pepoch = tonumber(held[3]), pseq = tonumber(held[4]),
    expiring = held[5], grown = false,
  }
  -- Everything that could be refused is found out before the first write: the ring would refuse
  -- an entry that is not above its top.
  local top = redis.call('XREVRANGE', KEYS[2 + 2 * room], '+', '-', 'COUNT', 1)[1]
  if top then
    local seq = tonumber(string.match(top[1], '%-(%d+)$'))
    if seq > head.seq then head.seq = seq end
  end
  heads[room] = head
  return head
end

local answers = {''}
local entry, at = 0, 5 + rooms
while at <= #ARGV do
  entry = entry + 1
  local room, digest, envelope = tonumber(ARGV[at]), ARGV[at + 1], ARGV[at + 2]
  local id = KEYS[2 + 2 * rooms + entry]
  local head = head_of(room)
  local known
  if not head or length >= cap then
    known = redis.call('GET', id)
    if not known then
      answers[1] = head and 'full' or 'unhydrated'
      break
    end
  else
    local value = ARGV[1] .. ' ' .. string.format('%.0f', head.seq + 1) .. ' ' .. digest
    known = redis.call('SET', id, value, 'NX', 'GET')
  end
  local pepoch, pseq = head and head.pepoch or 0, head and head.pseq or 0
  local refused = known and string.match(known, '^refused (.*)$')
  if refused then
    answers[#answers + 1] = {'refused', refused}
  elseif known then
    local e, s, d = string.match(known, '^(%d+) (%d+) (.*)$')
    answers[#answers + 1] = {e, s, '1', d == digest and '1' or '0',
      string.format('%.0f', pepoch), string.format('%.0f', pseq)}
  else
    head.seq = head.seq + 1
    head.grown = true
    length = length + 1
    local seq = string.format('%.0f', head.seq)
    local position = ARGV[1] .. '-' .. seq
    redis.call('XADD', KEYS[2], ARGV[1] .. '-*', 'p', position, 'v', envelope)
    redis.call('XADD', KEYS[2 + 2 * room], position, 'v', envelope)
    answers[#answers + 1] = {ARGV[1], seq, '0', '1',
      string.format('%.0f', pepoch), string.format('%.0f', pseq)}
    -- The head is written before the publication: who hears of an entry finds it.
    redis.call('HSET', KEYS[1 + 2 * room], 'epoch', ARGV[1], 'seq', seq)
    redis.pcall(ARGV[3], ARGV[4 + room], position .. ' ' .. envelope)
  end
  at = at + 3
end
for room, head in pairs(heads) do
  if head and head.grown and head.expiring then
    redis.call('PERSIST', KEYS[1 + 2 * room])
    redis.call('PERSIST', KEYS[2 + 2 * room])
    redis.call('HDEL', KEYS[1 + 2 * room], 'expiring')
  end
end
return answers
