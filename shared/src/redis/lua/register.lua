-- Admits a producer explicitly; one that is known keeps its position.
-- KEYS: meta, producers   ARGV: epoch, producer, shards
if meta.shards ~= ARGV[3] then return {'SHARDS', meta.shards} end
redis.call('HSETNX', KEYS[2], ARGV[2], '0:0')
local last = redis.call('HGET', KEYS[2], ARGV[2])
return {'OK', tonumber(string.match(last, '^%d+')), meta.tail, meta.first}
