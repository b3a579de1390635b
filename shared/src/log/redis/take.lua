-- Takes this Redis for a deployment, if no other has it. KEYS[1]: the deployment's key. ARGV[1]: its
-- name. Answers whose it is. A write, even where it changes nothing: it comes through only where
-- writes do.
return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'GET') or ARGV[1]
