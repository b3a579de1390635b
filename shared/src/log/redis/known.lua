-- Where an id stands. KEYS: epoch, id, head.
-- Answers {'unknown'}, {'known', what is remembered, persisted epoch, persisted seq}. What this
-- Redis remembers of before its epoch, and up to the database's head then, is for the database to
-- say: it may stand nowhere.
local armed = redis.call('HMGET', KEYS[1], 'epoch', 'run')
local run = run_id()
if not armed[1] or (run and armed[2] ~= run) then return {'unknown'} end
local known = redis.call('GET', KEYS[2])
if not known then return {'unknown'} end
local e, s = string.match(known, '^(%d+) (%d+) ')
local head = redis.call('HMGET', KEYS[3], 'pepoch', 'pseq', 'compared', 'cepoch', 'cseq')
if e then
  if head[3] ~= armed[1] then return {'unknown'} end
  if not above(tonumber(e), tonumber(s), tonumber(head[4]), tonumber(head[5])) then
    return {'unknown'}
  end
end
return {'known', known, head[1] or '0', head[2] or '0'}
