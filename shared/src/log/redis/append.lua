-- Appends a shard's waiting entries in order, until the first that cannot be done.
-- KEYS: epoch, log, unsynced credits, load, synced, then head and ring of each room, then one for
-- each entry: its id, or for a receipt the room's receipts.
-- ARGV: epoch, entries and bytes that the log may hold which are not persisted, percent of maxmemory
-- that may be used (all three empty: no cap), PUBLISH or SPUBLISH, ms that receipts are kept, count of rooms, the channel of
-- each room, then for each entry one of
--   'm', room (from 1), digest, envelope                         an entry with a place in its room
--   'd', room, digest, envelope                 the same, though the database has refused its id
--   'c', room, digest, envelope, its cost's envelope, user, amount       one that costs something
--   'u', digest, envelope, user, amount                          a movement of credits on its own
--   'r', user, epoch, seq, message or '', read at, envelope, channel, signal             a receipt
-- Answers {stop, {epoch, seq, duplicate, same content, persisted epoch, persisted seq}...}, and for
-- an id that the database refused {'refused', why}. What has no place in a room is answered with
-- its place in the log.
if is_stale() then return {'stale'} end
local epoch, rooms = ARGV[1], tonumber(ARGV[7])
local entries_max, bytes_max = tonumber(ARGV[2]), tonumber(ARGV[3])
local heads = {}
-- Receipts of a room that are kept here whether the database has them or not.
local RECEIPTS_MAX = 4000
local arity = {m = 4, d = 4, c = 7, u = 5, r = 9}
-- What is remembered of the log up to where it was cut, the database knows.
local cut_epoch, cut_n = string.match(cut or '0-0', '^(%d+)%-(%d+)$')
cut_epoch, cut_n = tonumber(cut_epoch), tonumber(cut_n)

-- What takes no cap is executed however full Redis is, because the first write takes no memory.
if not entries_max then redis.call('HDEL', KEYS[4], '') end

-- What was ever appended to the log, and how much of it is persisted. The log keeps some of that for
-- a while; a log that is empty, or was cut, has less waiting than they say.
local load = redis.call('HMGET', KEYS[4], 'entries', 'bytes', 'pentries', 'pbytes', 'looked')
for at = 1, 5 do load[at] = tonumber(load[at]) or 0 end
local waiting_entries = math.min(redis.call('XLEN', KEYS[2]), math.max(0, load[1] - load[3]))
local waiting_bytes = waiting_entries > 0 and math.max(0, load[2] - load[4]) or 0
local short, grown, last = nil, false, nil
-- How much the log takes before it is looked again whether memory is short: 64 shards together take
-- less than what is left over for such a time.
local LOOK_BYTES, ENTRY_BYTES = 64 * 1024, 1024

-- Whether memory is short. To ask costs as much as to append, so it is asked now and then only; and
-- every time while it is.
local function is_out_of_memory()
  local taken = load[1] * ENTRY_BYTES + load[2]
  if load[5] > 0 and taken >= load[5] and taken - load[5] < LOOK_BYTES then return false end
  local is = is_short(tonumber(ARGV[4]))
  if not is or load[5] > 0 then
    redis.call('HSET', KEYS[4], 'looked', is and '0' or text(math.max(1, taken)))
  end
  return is
end

local function is_full()
  if not entries_max then return false end
  if short == nil then short = is_out_of_memory() end
  return short or waiting_entries >= entries_max or waiting_bytes >= bytes_max
end

local function head_of(room)
  if heads[room] ~= nil then return heads[room] end
  local held = redis.call('HMGET', KEYS[4 + 2 * room], 'epoch', 'seq', 'pepoch', 'pseq', 'expiring',
    'compared', 'cepoch', 'cseq', 'bytes')
  -- A head of an older epoch counts for nothing before it was compared with the database's.
  if not held[1] or held[6] ~= epoch then
    heads[room] = false
    return false
  end
  local head = {
    seq = tonumber(held[2]), pepoch = tonumber(held[3]), pseq = tonumber(held[4]),
    expiring = held[5], grown = false, cepoch = tonumber(held[7]), cseq = tonumber(held[8]),
    bytes = tonumber(held[9]) or 0,
  }
  -- The ring would refuse an entry that is not above its top, after the first write: when the head
  -- was compared, it was raised to that, and nothing else is added to the ring.
  heads[room] = head
  return head
end

-- Counts an entry, and gives what was ever appended, itself included: the last field of each.
local function counted(envelope)
  waiting_entries, waiting_bytes = waiting_entries + 1, waiting_bytes + #envelope
  load[1], load[2], grown = load[1] + 1, load[2] + #envelope, true
  return text(load[1]) .. '-' .. text(load[2])
end

local function log(position, envelope)
  last = redis.call('XADD', KEYS[2], epoch .. '-*', 'p', position, 'v', envelope, 't',
    counted(envelope))
  return last
end

-- A movement of credits; the log says in clear text what it moves, for whoever cuts it.
local function log_movement(envelope, user, amount)
  redis.call('HINCRBY', KEYS[3], user, amount)
  last = redis.call('XADD', KEYS[2], epoch .. '-*', 'p', '', 'v', envelope, 'u', user, 'a', amount,
    't', counted(envelope))
  return last
end

local function known_answer(known, digest, pepoch, pseq)
  local refused = string.match(known, '^refused (.*)$')
  if refused then return {'refused', refused} end
  local e, s, d = string.match(known, '^(%d+) (%d+) (.*)$')
  -- What the worker added is known by its id alone.
  local same = d == '' or d == digest
  return {e, s, '1', same and '1' or '0', text(pepoch), text(pseq)}
end

-- Whether what is remembered of an id stands at or below a place that the database answers for.
-- Whoever offers it has asked the database, which does not have it: it stands nowhere.
local function is_passed(known, epoch_passed, passed)
  local e, s = string.match(known, '^(%d+) (%d+) ')
  return e ~= nil and not above(tonumber(e), tonumber(s), epoch_passed, passed)
end

-- A place in the room's order, and before it what it costs. Gives the answer, or why it stops.
local function place(at, id)
  local room, digest, envelope = tonumber(ARGV[at + 1]), ARGV[at + 2], ARGV[at + 3]
  local head = head_of(room)
  if not head then return nil, 'unhydrated' end
  local value, known = epoch .. ' ' .. text(head.seq + 1) .. ' ' .. digest, nil
  local full = is_full()
  if full then known = redis.call('GET', id) else known = redis.call('SET', id, value, 'NX', 'GET') end
  if known then
    local is_lifted = ARGV[at] == 'd' and string.find(known, '^refused ')
    if not is_lifted and not is_passed(known, head.cepoch, head.cseq) then
      return known_answer(known, digest, head.pepoch, head.pseq)
    end
  end
  if full then return nil, 'full' end
  if known then redis.call('SET', id, value) end
  if ARGV[at] == 'c' then
    log_movement(ARGV[at + 4], ARGV[at + 5], ARGV[at + 6])
  end
  head.seq = head.seq + 1
  head.grown = true
  local seq = text(head.seq)
  local position = epoch .. '-' .. seq
  log(position, envelope)
  head.bytes = head.bytes + #envelope
  local bytes = text(head.bytes)
  redis.call('XADD', KEYS[5 + 2 * room], position, 'v', envelope, 'b', bytes)
  -- The head is written before the publication: who hears of an entry finds it.
  redis.call('HSET', KEYS[4 + 2 * room], 'epoch', epoch, 'seq', seq, 'bytes', bytes)
  redis.pcall(ARGV[5], ARGV[7 + room], position .. ' ' .. envelope)
  return {epoch, seq, '0', '1', text(head.pepoch), text(head.pseq)}
end

local function movement(at, id)
  local digest = ARGV[at + 1]
  local known = redis.call('GET', id)
  if known and not is_passed(known, cut_epoch, cut_n) then
    return known_answer(known, digest, 0, 0)
  end
  if is_full() then return nil, 'full' end
  local logged = log_movement(ARGV[at + 2], ARGV[at + 3], ARGV[at + 4])
  local n = string.match(logged, '%-(%d+)$')
  redis.call('SET', id, epoch .. ' ' .. n .. ' ' .. digest)
  return {epoch, n, '0', '1', '0', '0'}
end

-- Lets go of some receipts that the database has, where there are very many.
local function forget_some(receipts)
  if redis.call('HLEN', receipts) <= RECEIPTS_MAX then return end
  local held = redis.call('HRANDFIELD', receipts, 16, 'WITHVALUES')
  local se, sn = string.match(redis.call('GET', KEYS[5]) or '0-0', '^(%d+)%-(%d+)$')
  for at = 1, #held, 2 do
    local le, ln = string.match(held[at + 1], '^%d+ %d+ %S+ (%d+)%-(%d+) ')
    if le and not above(tonumber(le), tonumber(ln), tonumber(se), tonumber(sn)) then
      redis.call('HDEL', receipts, held[at])
    end
  end
end

local function receipt(at, receipts)
  local user, e, s = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local held = redis.call('HGET', receipts, user)
  local is_behind = false
  if held then
    local he, hs, le, ln = string.match(held, '^(%d+) (%d+) %S+ (%d+)%-(%d+) ')
    is_behind = not above(tonumber(e), tonumber(s), tonumber(he), tonumber(hs))
    -- One that was logged below the cut may stand nowhere, and then neither would this one.
    if is_behind and above(tonumber(le), tonumber(ln), cut_epoch, cut_n) then
      return {'0', '0', '1', '1', '0', '0'}
    end
  end
  if is_full() then return nil, 'full' end
  local logged = log('', ARGV[at + 6])
  local n = string.match(logged, '%-(%d+)$')
  if not is_behind then
    local value = e .. ' ' .. s .. ' ' .. ARGV[at + 5] .. ' ' .. logged .. ' ' .. ARGV[at + 4]
    redis.call('HSET', receipts, user, value)
    forget_some(receipts)
  end
  redis.call('PEXPIRE', receipts, ARGV[6])
  redis.pcall(ARGV[5], ARGV[at + 7], ARGV[at + 8])
  return {epoch, n, '0', '1', '0', '0'}
end

local answers = {''}
local entry, at = 0, 8 + rooms
while at <= #ARGV do
  entry = entry + 1
  local op, key = ARGV[at], KEYS[5 + 2 * rooms + entry]
  local answer, stop
  if op == 'u' then
    answer, stop = movement(at, key)
  elseif op == 'r' then
    answer, stop = receipt(at, key)
  else
    answer, stop = place(at, key)
  end
  if stop then
    answers[1] = stop
    break
  end
  answers[#answers + 1] = answer
  at = at + arity[op]
end
if grown then
  redis.call('HSET', KEYS[4], 'entries', text(load[1]), 'bytes', text(load[2]), 'last', last)
end
for room, head in pairs(heads) do
  if head and head.grown and head.expiring then
    redis.call('PERSIST', KEYS[4 + 2 * room])
    redis.call('PERSIST', KEYS[5 + 2 * room])
    redis.call('HDEL', KEYS[4 + 2 * room], 'expiring')
  end
end
return answers
