-- After the commit: remembers what is persisted, cuts log and rings, lets go of ids, tells everyone.
-- KEYS: epoch, log, unsynced credits, synced, load, then head and ring of each room, then ids, those
-- first that were refused.
-- ARGV: epoch, the first log id to keep, PUBLISH or SPUBLISH, the watermark's channel, the
-- watermark, ms that a room and an id are kept, entries a ring keeps, the last log id that is
-- persisted, count of rooms, count of refused ids, entries and bytes that were ever appended up to
-- there, bytes a ring keeps, 1 where memory is short, then for each room the epoch and
-- seq that are persisted, then for each refused id the refusal, then for each movement of credits
-- its log id, user and amount. Idempotent; never moves anything back.
if is_stale() then return {'stale'} end
local room_ms, id_ms, keep = ARGV[6], ARGV[7], tonumber(ARGV[8])
local rooms, refusals = tonumber(ARGV[10]), tonumber(ARGV[11])
local keep_bytes = tonumber(ARGV[14])
-- First what Redis does however full it is; it does the rest of the script then, too.
redis.call('HDEL', KEYS[5], '')
if ARGV[2] ~= '' then redis.call('XTRIM', KEYS[2], 'MINID', ARGV[2]) end
local short = ARGV[15] == '1'

local function parts(id)
  local epoch, n = string.match(id, '^(%d+)%-(%d+)$')
  return tonumber(epoch), tonumber(n)
end

-- Cuts the oldest entries of a ring until it has at most `keep_bytes`, or until one that is not
-- persisted; what is too much for one call is left to the next. `total` is what was ever added to
-- it; each entry knows what it was with that entry. Gives what it was before the first that is left: as long as that is not too far back, there is
-- nothing to look at.
local function cut_ring(ring_key, total, pe, ps)
  local from, seen, after = '-', 0, nil
  local cut = total
  while seen < 4 * 1024 * 1024 do
    local entry = redis.call('XRANGE', ring_key, from, '+', 'COUNT', 1)[1]
    if not entry then break end
    local size, upto = #entry[2][2], tonumber(entry[2][4]) or 0
    local e, s = parts(entry[1])
    cut = upto - size
    if total - cut <= keep_bytes or above(e, s, pe, ps) then break end
    cut, seen, from = upto, seen + size, '(' .. entry[1]
    after = e .. '-' .. text(s + 1)
  end
  if after then redis.call('XTRIM', ring_key, 'MINID', after) end
  return cut
end

for room = 1, rooms do
  local head_key, ring_key = KEYS[4 + 2 * room], KEYS[5 + 2 * room]
  local epoch, seq = ARGV[14 + 2 * room], ARGV[15 + 2 * room]
  local e, s = tonumber(epoch), tonumber(seq)
  local held = redis.call('HMGET', head_key, 'epoch', 'seq', 'pepoch', 'pseq', 'bytes', 'cut')
  if held[1] then
    local he, hs = tonumber(held[1]), tonumber(held[2])
    local pe, ps = tonumber(held[3]), tonumber(held[4])
    if above(e, s, pe, ps) then
      pe, ps = e, s
      redis.call('HSET', head_key, 'pepoch', epoch, 'pseq', seq)
    end
    -- What is persisted is read from the database where there is no room for it here.
    if short then
      redis.call('XTRIM', ring_key, 'MINID', text(pe) .. '-' .. text(ps + 1))
    end
    -- seq goes on over epochs, so the difference counts what is not persisted.
    redis.call('XTRIM', ring_key, 'MAXLEN', '~', math.max(keep, hs - ps))
    local total = tonumber(held[5]) or 0
    if total - (tonumber(held[6]) or 0) > keep_bytes then
      redis.call('HSET', head_key, 'cut', text(cut_ring(ring_key, total, pe, ps)))
    end
    if he == pe and hs == ps then
      redis.call('HSET', head_key, 'expiring', '1')
      redis.call('PEXPIRE', head_key, room_ms)
      redis.call('PEXPIRE', ring_key, room_ms)
    end
  end
end
-- Whoever offers a refused id again is told so, and not that it stands.
local first_id = 6 + 2 * rooms
for id = first_id, #KEYS do
  local refused = id - first_id + 1
  if refused <= refusals then
    redis.call('SET', KEYS[id], 'refused ' .. ARGV[15 + 2 * rooms + refused], 'PX', id_ms)
  else
    redis.call('PEXPIRE', KEYS[id], id_ms)
  end
end
-- Each movement is taken off once, however often it is trimmed.
local se, sn = parts(redis.call('GET', KEYS[4]) or '0-0')
for at = 16 + 2 * rooms + refusals, #ARGV, 3 do
  local e, n = parts(ARGV[at])
  if above(e, n, se, sn) then
    local user, taken = ARGV[at + 1], negated(ARGV[at + 2])
    if redis.call('HINCRBY', KEYS[3], user, taken) == 0 then redis.call('HDEL', KEYS[3], user) end
  end
end
local ue, un = parts(ARGV[9])
if above(ue, un, se, sn) then redis.call('SET', KEYS[4], ARGV[9]) end
local persisted = tonumber(redis.call('HGET', KEYS[5], 'pentries')) or 0
if tonumber(ARGV[12]) > persisted then
  redis.call('HSET', KEYS[5], 'pentries', ARGV[12], 'pbytes', ARGV[13])
end
redis.pcall(ARGV[3], ARGV[4], ARGV[5])
return {''}
