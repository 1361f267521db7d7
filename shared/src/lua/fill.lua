-- Takes a value read from MySQL at generation `fence`, caches it if nothing moved since, and answers
-- what is pending above that generation.
-- KEYS: meta, headers, backlog, totals, live, then totals of the generations up to `fence` that may not be acknowledged
-- ARGV: epoch, article, TTL (ms), version, fence, views, readers, the version in MySQL
if tonumber(ARGV[8]) > meta.version then redis.call('HSET', KEYS[1], 'version', ARGV[8]) end
if meta.version ~= tonumber(ARGV[4]) or tonumber(ARGV[8]) ~= meta.version then return {'EPOCH'} end
local fence = tonumber(ARGV[5])
if fence < meta.first - 1 then return {'MOVED'} end
local pending = (tonumber(redis.call('HGET', KEYS[3], ARGV[2])) or 0)
  + (tonumber(redis.call('HGET', KEYS[4], ARGV[2])) or 0)
for i = 6, #KEYS do -- committed; not there any more if acknowledged meanwhile
  pending = pending - (tonumber(redis.call('HGET', KEYS[i], ARGV[2])) or 0)
end
if fence == meta.first - 1 then
  redis.call('SET', KEYS[5], ARGV[6] .. ':' .. ARGV[7], 'PX', ARGV[3], 'NX') -- another process may have been faster
end
return {'OK', pending, stored_until(KEYS[2])}
