-- Admits a producer explicitly; one that is known keeps its position.
-- KEYS: meta, producers   ARGV: epoch, producer, shards
if meta.shards ~= ARGV[3] then return {'SHARDS', meta.shards} end
redis.call('HSETNX', KEYS[2], ARGV[2], 0)
return {'OK', tonumber(redis.call('HGET', KEYS[2], ARGV[2])), meta.gen, meta.first}
