-- The articles of a generation and their views, or nothing if its parts contradict each other, as far as that can be
-- seen without unpacking its batches. Called before the first write of a script: what stops halfway stays half done.
local function contents(totals, log, batches, views)
  if redis.call('LLEN', log) ~= batches then return nil end
  local all, articles, counts, sum = redis.call('HGETALL', totals), {}, {}, 0
  for i = 1, #all, 2 do
    local count = tonumber(all[i + 1])
    if not count then return nil end
    articles[#articles + 1], counts[#counts + 1], sum = all[i], all[i + 1], sum + count
  end
  if sum ~= views then return nil end
  return articles, counts
end
