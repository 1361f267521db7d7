-- Closes the open generation if it still is the one that the caller means and holds anything (I7).
-- KEYS: meta, dirty, totals, log, headers, backlog, then dirty, totals, log of the sealed generation
-- ARGV: epoch, generation
if meta.gen == tonumber(ARGV[2]) and meta.views > 0 then
  local batches = redis.call('LLEN', KEYS[4])
  redis.call('HSET', KEYS[5], meta.gen, string.format('%d:%d:%d', batches, meta.views, meta.opened))
  for _, article in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do
    redis.call('HINCRBY', KEYS[6], article, redis.call('HGET', KEYS[3], article))
  end
  for i = 1, 3 do redis.call('RENAME', KEYS[1 + i], KEYS[6 + i]) end
  redis.call('HINCRBY', KEYS[1], 'sealed_views', meta.views)
  redis.call('HSET', KEYS[1], 'gen', meta.gen + 1, 'views', 0)
  meta.gen = meta.gen + 1
end
return {'OK', meta.gen, meta.first}
