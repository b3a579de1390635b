-- After the commit: remembers what is persisted, cuts log and rings, lets go of ids, tells everyone.
-- KEYS: epoch, log, then head and ring of each room, then ids, those first that were refused.
-- ARGV: epoch, the first log id to keep, PUBLISH or SPUBLISH, the watermark's channel, the
-- watermark, count of rooms, entries a ring keeps, ms that a room and an id are kept, then for each
-- room the epoch and seq that are persisted, then for each refused id the refusal. Idempotent;
-- never moves anything back.
if is_stale() then return {'stale'} end
local rooms, keep = tonumber(ARGV[6]), tonumber(ARGV[7])
if ARGV[2] ~= '' then redis.call('XTRIM', KEYS[2], 'MINID', ARGV[2]) end
for room = 1, rooms do
  local head_key, ring_key = KEYS[1 + 2 * room], KEYS[2 + 2 * room]
  local e, s = tonumber(ARGV[8 + 2 * room]), tonumber(ARGV[9 + 2 * room])
  local held = redis.call('HMGET', head_key, 'epoch', 'seq', 'pepoch', 'pseq')
  if held[1] then
    local he, hs = tonumber(held[1]), tonumber(held[2])
    local pe, ps = tonumber(held[3]), tonumber(held[4])
    if above(e, s, pe, ps) then
      pe, ps = e, s
      redis.call('HSET', head_key, 'pepoch', ARGV[8 + 2 * room], 'pseq', ARGV[9 + 2 * room])
    end
    -- seq goes on over epochs, so the difference counts what is not persisted.
    redis.call('XTRIM', ring_key, 'MAXLEN', '~', math.max(keep, hs - ps))
    if he == pe and hs == ps then
      redis.call('HSET', head_key, 'expiring', '1')
      redis.call('PEXPIRE', head_key, ARGV[8])
      redis.call('PEXPIRE', ring_key, ARGV[8])
    end
  end
end
-- Whoever offers a refused id again is told so, and not that it stands.
local refusals = #ARGV - 9 - 2 * rooms
for id = 3 + 2 * rooms, #KEYS do
  local refused = id - 2 - 2 * rooms
  if refused <= refusals then
    redis.call('SET', KEYS[id], 'refused ' .. ARGV[9 + 2 * rooms + refused], 'PX', ARGV[9])
  else
    redis.call('PEXPIRE', KEYS[id], ARGV[9])
  end
end
redis.pcall(ARGV[3], ARGV[4], ARGV[5])
return {'', tostring(redis.call('XLEN', KEYS[2]))}
