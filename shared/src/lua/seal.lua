-- Closes the open generation if it still is the one that the caller means and holds anything (I7). Most generations are
-- in MySQL before the next one is closed: its totals are added to the backlog only then.
-- KEYS: meta, totals, log, headers, backlog, newest, then totals of the generation before, log of this one
-- ARGV: epoch, generation
if meta.gen == tonumber(ARGV[2]) and meta.batches > 0 then
  local has_totals = redis.call('HLEN', KEYS[2]) > 0 -- else every view of it was a repeat
  if redis.call('LLEN', KEYS[3]) ~= meta.batches or has_totals ~= (meta.views > 0) then return {'DAMAGED', meta.gen} end
  if not merge(KEYS[6], KEYS[7], KEYS[5]) then return {'DAMAGED', meta.gen - 1} end
  redis.call('HSET', KEYS[4], meta.gen, string.format('%d:%d:%d', meta.batches, meta.views, meta.opened))
  redis.call('RENAME', KEYS[3], KEYS[8])
  if has_totals then redis.call('RENAME', KEYS[2], KEYS[6]) end
  redis.call('HINCRBY', KEYS[1], 'sealed_views', meta.views)
  redis.call('HSET', KEYS[1], 'gen', meta.gen + 1, 'views', 0, 'batches', 0, 'opened', 0)
  meta.gen = meta.gen + 1
end
return {'OK', meta.gen, meta.first}
