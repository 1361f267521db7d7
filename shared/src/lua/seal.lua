-- Closes the open generation if it still is the one that the caller means and holds anything (I7).
-- KEYS: meta, dirty, totals, log, headers, backlog, then dirty, totals, log of the sealed generation
-- ARGV: epoch, generation
local batches = redis.call('LLEN', KEYS[4])
if meta.gen == tonumber(ARGV[2]) and batches > 0 then
  redis.call('HSET', KEYS[5], meta.gen, string.format('%d:%d:%d', batches, meta.views, meta.opened))
  for _, article in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do
    redis.call('HINCRBY', KEYS[6], article, redis.call('HGET', KEYS[3], article))
  end
  redis.call('RENAME', KEYS[4], KEYS[9])
  if meta.views > 0 then -- else every view of it was a repeat
    redis.call('RENAME', KEYS[2], KEYS[7])
    redis.call('RENAME', KEYS[3], KEYS[8])
  end
  redis.call('HINCRBY', KEYS[1], 'sealed_views', meta.views)
  redis.call('HSET', KEYS[1], 'gen', meta.gen + 1, 'views', 0, 'opened', 0)
  meta.gen = meta.gen + 1
end
return {'OK', meta.gen, meta.first}
