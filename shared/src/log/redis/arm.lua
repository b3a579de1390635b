-- Makes an epoch the shard's, and cuts the log at the database's cursor: what lies at or below it
-- is the database's business, whatever this Redis remembers of it. A Redis that was set back, or
-- that comes back after another took its place, holds there what is stored and what is nowhere.
-- KEYS: epoch, log, unsynced credits, synced.
-- ARGV: the epoch that was minted, for which token, when, '1' if the database's shard was quiet then,
-- the cursor's epoch and number. Answers 0 where the token does not stand, 2 if the shard is quiet,
-- else 1.
local held = redis.call('HMGET', KEYS[1], 'token', 'run')
local run = run_id()
if held[1] ~= ARGV[2] or (run and held[2] ~= run) then return 0 end
-- The first write takes no memory, so that a full Redis executes it and all that follow.
redis.call('HDEL', KEYS[1], 'token')
local ce, cn = tonumber(ARGV[5]), tonumber(ARGV[6])
local cursor = ARGV[5] .. '-' .. ARGV[6]
-- What was counted as unsynced and is cut is unsynced no longer: what of it is nowhere is offered
-- again, and counted again.
local from = redis.call('GET', KEYS[4]) or '0-0'
local se, sn = string.match(from, '^(%d+)%-(%d+)$')
if above(ce, cn, tonumber(se), tonumber(sn)) then
  repeat
    local part = redis.call('XRANGE', KEYS[2], '(' .. from, cursor, 'COUNT', 16)
    for _, entry in ipairs(part) do
      from = entry[1]
      if entry[2][5] == 'u' then
        local user, amount = entry[2][6], entry[2][8]
        local left = redis.call('HINCRBY', KEYS[3], user, negated(amount))
        if left == 0 then redis.call('HDEL', KEYS[3], user) end
      end
    end
  until #part < 16
  redis.call('SET', KEYS[4], cursor)
end
redis.call('XTRIM', KEYS[2], 'MINID', ARGV[5] .. '-' .. string.format('%.0f', cn + 1))
-- What is left has yet to be stored, and stands in the database under no id: nothing was quiet.
local quiet = redis.call('XLEN', KEYS[2]) == 0 and ARGV[4] or '0'
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'minted', ARGV[3], 'quiet', quiet, 'cut', cursor)
return quiet == '1' and 2 or 1
