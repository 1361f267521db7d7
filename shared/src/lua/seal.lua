-- Closes the open generation if it still is the one that the caller means and holds anything (I7).
-- KEYS: meta, dirty, totals, log, headers, backlog, then dirty, totals, log of the sealed generation
-- ARGV: epoch, generation
if meta.gen == tonumber(ARGV[2]) and meta.batches > 0 then
  local articles, counts = contents(KEYS[2], KEYS[3], KEYS[4], KEYS[6], meta.batches, meta.views)
  if not articles then return {'DAMAGED', meta.gen} end
  redis.call('HSET', KEYS[5], meta.gen, string.format('%d:%d:%d', meta.batches, meta.views, meta.opened))
  add(KEYS[6], articles, counts, 1)
  redis.call('RENAME', KEYS[4], KEYS[9])
  if meta.views > 0 then -- else every view of it was a repeat
    redis.call('RENAME', KEYS[2], KEYS[7])
    redis.call('RENAME', KEYS[3], KEYS[8])
  end
  redis.call('HINCRBY', KEYS[1], 'sealed_views', meta.views)
  redis.call('HSET', KEYS[1], 'gen', meta.gen + 1, 'views', 0, 'batches', 0, 'opened', 0)
  meta.gen = meta.gen + 1
end
return {'OK', meta.gen, meta.first}
