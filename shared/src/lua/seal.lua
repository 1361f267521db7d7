-- Closes the open generation if it still is the one that the caller means and holds anything (I7).
-- KEYS: meta, totals, log, headers, backlog, then totals, log of the sealed generation
-- ARGV: epoch, generation
if meta.gen == tonumber(ARGV[2]) and meta.batches > 0 then
  local articles, counts = contents(KEYS[2], KEYS[3], meta.batches, meta.views)
  if not articles or not add(KEYS[5], articles, counts, 1) then return {'DAMAGED', meta.gen} end
  redis.call('HSET', KEYS[4], meta.gen, string.format('%d:%d:%d', meta.batches, meta.views, meta.opened))
  redis.call('RENAME', KEYS[3], KEYS[7])
  if meta.views > 0 then redis.call('RENAME', KEYS[2], KEYS[6]) end -- else every view of it was a repeat
  redis.call('HINCRBY', KEYS[1], 'sealed_views', meta.views)
  redis.call('HSET', KEYS[1], 'gen', meta.gen + 1, 'views', 0, 'batches', 0, 'opened', 0)
  meta.gen = meta.gen + 1
end
return {'OK', meta.gen, meta.first}
