-- Forgets what of a shard's log is persisted and old enough. KEYS: epoch, log. ARGV: epoch, the first
-- log id to keep.
if is_stale() then return {'stale'} end
redis.call('XTRIM', KEYS[2], 'MINID', ARGV[2])
return {''}
