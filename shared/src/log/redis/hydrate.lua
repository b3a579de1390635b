-- Compares heads of rooms with the database's, once under each epoch: a Redis that was set back
-- knows old heads, one that comes back knows heads of what is nowhere.
-- KEYS: epoch, then head and ring of each room. ARGV: epoch, when the database was asked by this
-- Redis's clock in ms, oldest answer allowed in ms, then epoch and seq of each room.
if is_stale() then return {'stale'} end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
-- An answer that waited here while rooms came and went would set a head that has passed.
if now - tonumber(ARGV[2]) > tonumber(ARGV[3]) then return {'old'} end

-- The greater of a place, as two texts, and another that may be none.
local function greater(e, s, oe, os)
  if oe and os and above(tonumber(oe), tonumber(os), tonumber(e), tonumber(s)) then
    return oe, os
  end
  return e, s
end

for room = 1, (#KEYS - 1) / 2 do
  local head_key, ring_key = KEYS[2 * room], KEYS[2 * room + 1]
  local held = redis.call('HMGET', head_key, 'epoch', 'seq', 'pepoch', 'pseq', 'compared')
  if held[5] ~= ARGV[1] then
    -- The first write takes no memory, so that a full Redis executes it and all that follow.
    redis.call('HDEL', head_key, 'compared')
    local ce, cs = ARGV[2 + 2 * room], ARGV[3 + 2 * room]
    -- What stands up to the database's head, the database answers for.
    redis.call('XTRIM', ring_key, 'MINID', ce .. '-' .. string.format('%.0f', tonumber(cs) + 1))
    local e, s = greater(ce, cs, held[1], held[2])
    local top = redis.call('XREVRANGE', ring_key, '+', '-', 'COUNT', 1)[1]
    if top then e, s = greater(e, s, string.match(top[1], '^(%d+)%-(%d+)$')) end
    if top and not held[1] then redis.call('HSET', head_key, 'bytes', top[2][4] or '0') end
    local pe, ps = greater(ce, cs, held[3], held[4])
    redis.call('HSET', head_key, 'epoch', e, 'seq', s, 'pepoch', pe, 'pseq', ps,
      'compared', ARGV[1], 'cepoch', ce, 'cseq', cs)
    if above(tonumber(e), tonumber(s), tonumber(pe), tonumber(ps)) then
      redis.call('HDEL', head_key, 'expiring')
      redis.call('PERSIST', head_key)
      redis.call('PERSIST', ring_key)
    else
      redis.call('HSET', head_key, 'expiring', '1')
      redis.call('PEXPIRE', head_key, ARGV[#ARGV])
      redis.call('PEXPIRE', ring_key, ARGV[#ARGV])
    end
  end
end
return {''}
