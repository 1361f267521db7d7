-- The articles of a generation and their views, or nothing if its parts contradict each other, as far as that can be
-- seen without unpacking its batches. Called before the first write of a script: what stops halfway stays half done.
local function contents(dirty, totals, log, backlog, batches, views)
  local articles, counts, sum = redis.call('LRANGE', dirty, 0, -1), {}, 0
  if redis.call('LLEN', log) ~= batches or redis.call('HLEN', totals) ~= #articles then return nil end
  for i, article in ipairs(articles) do
    local count, before = tonumber(redis.call('HGET', totals, article)), redis.call('HGET', backlog, article)
    if not count or (before and not tonumber(before)) then return nil end
    counts[i], sum = count, sum + count
  end
  if sum ~= views then return nil end
  return articles, counts
end
