-- Prepended to every script that names an epoch. KEYS[1]: the shard's epoch; ARGV[1]: the epoch
-- that the caller believes in. A Redis that was promoted, restarted or emptied has another run id
-- than the one that armed the epoch, and takes nothing under it.
local function run_id()
  local info = redis.pcall('INFO', 'server')
  -- Where INFO is forbidden nothing is compared: such a Redis must not lose writes at a restart.
  if type(info) ~= 'string' then return nil end
  return string.match(info, 'run_id:(%w+)')
end

local function is_stale()
  local held = redis.call('HMGET', KEYS[1], 'epoch', 'run')
  if held[1] ~= ARGV[1] then return true end
  local run = run_id()
  return run ~= nil and held[2] ~= run
end

-- Whether position (e1, s1) lies above (e2, s2).
local function above(e1, s1, e2, s2)
  return e1 > e2 or (e1 == e2 and s1 > s2)
end

-- A whole number that a script was given, with the other sign.
local function negated(amount)
  return string.sub(amount, 1, 1) == '-' and string.sub(amount, 2) or '-' .. amount
end
