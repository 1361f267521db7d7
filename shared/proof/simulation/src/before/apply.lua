-- What the version before had as its `apply`, without totals and view ids: no generation's totals are carried over.
-- KEYS: meta, producers, log   ARGV: epoch, producer, number, views, cumulative views, packed batch
local incarnation = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'incarnation', 'gen', 'first', 'views', 'batches')
if meta[1] ~= ARGV[1] or meta[2] ~= incarnation then return {'EPOCH'} end
local last = redis.call('HGET', KEYS[2], ARGV[2])
if not last then return {'BEHIND'} end
last = tonumber(string.match(last, '^%d+'))
if tonumber(ARGV[3]) <= last then return {'OK', tonumber(meta[3]), tonumber(meta[4])} end
if tonumber(ARGV[3]) ~= last + 1 then return {'BEHIND'} end
redis.call('RPUSH', KEYS[3], ARGV[6])
redis.call('HSET', KEYS[1], 'views', meta[5] + ARGV[4], 'batches', meta[6] + 1)
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3] .. ':' .. ARGV[5])
return {'OK', tonumber(meta[3]), tonumber(meta[4])}
