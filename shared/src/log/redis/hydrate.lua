-- Tells Redis the database's heads of rooms that it does not know.
-- KEYS: epoch, then head and ring of each room. ARGV: epoch, when the database was asked by this
-- Redis's clock in ms, oldest answer allowed in ms, then epoch and seq of each room.
if is_stale() then return {'stale'} end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
-- An answer that waited here while rooms came and went would set a head that has passed.
if now - tonumber(ARGV[2]) > tonumber(ARGV[3]) then return {'old'} end
for room = 1, (#KEYS - 1) / 2 do
  local head_key, ring_key = KEYS[2 * room], KEYS[2 * room + 1]
  if redis.call('EXISTS', head_key) == 0 then
    local e, s = ARGV[2 + 2 * room], ARGV[3 + 2 * room]
    local pe, ps = e, s
    local top = redis.call('XREVRANGE', ring_key, '+', '-', 'COUNT', 1)[1]
    if top then
      local te, ts = string.match(top[1], '^(%d+)%-(%d+)$')
      if above(tonumber(te), tonumber(ts), tonumber(e), tonumber(s)) then e, s = te, ts end
    end
    redis.call('HSET', head_key, 'epoch', e, 'seq', s, 'pepoch', pe, 'pseq', ps, 'expiring', '1')
    redis.call('PEXPIRE', head_key, ARGV[#ARGV])
    redis.call('PEXPIRE', ring_key, ARGV[#ARGV])
  end
end
return {''}
