-- The articles of a generation and their views, or nothing if its parts contradict each other, as far as that can be
-- seen without unpacking its batches. Called before the first write of a script: what stops halfway stays half done.
local function contents(dirty, totals, log, backlog, batches, views)
  local articles, counts, sum = redis.call('LRANGE', dirty, 0, -1), {}, 0
  if redis.call('LLEN', log) ~= batches or redis.call('HLEN', totals) ~= #articles then return nil end
  for from = 1, #articles, 500 do -- see `add`
    local to = math.min(from + 499, #articles)
    local counted = redis.call('HMGET', totals, unpack(articles, from, to))
    local before = redis.call('HMGET', backlog, unpack(articles, from, to))
    for i = 1, to - from + 1 do
      local count = tonumber(counted[i] or nil)
      if not count or (before[i] and not tonumber(before[i])) then return nil end
      counts[from + i - 1], sum = count, sum + count
    end
  end
  if sum ~= views then return nil end
  return articles, counts
end
