-- KEYS: meta, headers, backlog, totals, live   ARGV: epoch, article, TTL (ms), version
if meta.version ~= tonumber(ARGV[4]) then return {'EPOCH'} end
local pending = (tonumber(redis.call('HGET', KEYS[3], ARGV[2])) or 0)
  + (tonumber(redis.call('HGET', KEYS[4], ARGV[2])) or 0)
local base = redis.call('HMGET', KEYS[5], 'views', 'readers')
if not base[1] then return {'MISS', meta.first, pending} end
redis.call('PEXPIRE', KEYS[5], ARGV[3], 'GT') -- one that is being viewed lives longer
return {'OK', tonumber(base[1]), tonumber(base[2]), pending, stored_until(KEYS[2])}
