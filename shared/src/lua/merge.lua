-- The articles in the totals of a generation, their views and the sum of these; nothing if it holds anything else.
local function counts_of(totals)
  local all, articles, counts, sum = redis.call('HGETALL', totals), {}, {}, 0
  for i = 1, #all, 2 do
    local count = tonumber(all[i + 1])
    if not count then return nil end
    articles[#articles + 1], counts[#counts + 1], sum = all[i], all[i + 1], sum + count
  end
  return articles, counts, sum
end

-- Adds the totals of the newest sealed generation, which stand by themselves, to the backlog, and gives them the name
-- of any other sealed generation. Answers false, and has changed nothing, if they hold anything else than numbers.
local function merge(newest, totals, backlog)
  if redis.call('EXISTS', newest) == 0 then return true end
  local articles, counts = counts_of(newest)
  if not articles or not add(backlog, articles, counts, 1) then return false end
  redis.call('RENAME', newest, totals)
  return true
end

