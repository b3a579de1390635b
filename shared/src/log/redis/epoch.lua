-- Prepended to every script that names an epoch. KEYS[1]: the shard's epoch; ARGV[1]: the epoch
-- that the caller believes in. A Redis that was promoted, restarted or emptied has another run id
-- than the one that armed the epoch, and takes nothing under it.
local function run_id()
  local info = redis.pcall('INFO', 'server')
  -- Where INFO is forbidden nothing is compared: such a Redis must not lose writes at a restart.
  if type(info) ~= 'string' then return nil end
  local _, before = string.find(info, 'run_id:', 1, true)
  return before and string.match(info, '^%w+', before + 1)
end

-- Up to where the log was cut when the epoch began; known once is_stale was asked.
local cut

local function is_stale()
  local held = redis.call('HMGET', KEYS[1], 'epoch', 'run', 'cut')
  if held[1] ~= ARGV[1] then return true end
  cut = held[3]
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

local function text(number)
  return string.format('%d', number)
end

-- Whether this Redis is so full that it takes nothing new, and keeps nothing that it need not: what
-- is left over is for what has to be written all the same. ARGV of the caller: the part of
-- `maxmemory` that may be used, in percent. Where INFO is forbidden nobody knows.
local function is_short(percent)
  local info = redis.pcall('INFO', 'memory')
  if type(info) ~= 'string' then return false end
  local used = tonumber(string.match(info, 'used_memory:(%d+)'))
  local most = tonumber(string.match(info, 'maxmemory:(%d+)'))
  return used ~= nil and most ~= nil and most > 0 and used * 100 > most * percent
end

-- A part of a stream from `from` on, `command` being XRANGE or XREVRANGE: so many entries, and none
-- any more once they have so many bytes. Read in steps, because nothing tells how large the next
-- ones are. Gives them, and whether there may be more.
local function page(command, stream, from, entries, bytes)
  local found, step, largest = {}, 1, 1
  local to = command == 'XRANGE' and '+' or '-'
  while #found < entries and bytes > 0 do
    local asked = math.min(step, entries - #found)
    local part = redis.call(command, stream, from, to, 'COUNT', asked)
    for _, entry in ipairs(part) do
      local size = 0
      for field = 2, #entry[2], 2 do size = size + #entry[2][field] end
      largest = math.max(largest, size)
      bytes = bytes - size
      found[#found + 1] = entry
    end
    if #part < asked then return found, false end
    from = '(' .. part[#part][1]
    step = math.max(1, math.min(8, 2 * step, math.floor(bytes / largest)))
  end
  return found, true
end
