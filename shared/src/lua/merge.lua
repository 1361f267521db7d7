-- The articles in the totals of a generation, given as field, value, ..., their views, and the sum of these; nothing if
-- there is anything else in it.
local function counts_of(all)
  local articles, counts, sum = {}, {}, 0
  for i = 1, #all, 2 do
    local count = tonumber(all[i + 1])
    if not count then return nil end
    articles[#articles + 1], counts[#counts + 1], sum = all[i], all[i + 1], sum + count
  end
  return articles, counts, sum
end

-- Keeps totals that wait longer as text, a third of what they take as a hash: an article behind each 1, its views behind
-- a 2. No id holds such a character.
local function pack(totals, articles, counts)
  local parts = {}
  for i = 1, #articles do parts[i] = '\1' .. articles[i] .. '\2' .. counts[i] end
  if #parts > 0 then redis.call('SET', totals, table.concat(parts)) end
end

local function packed(totals)
  local all = {}
  for article, views in string.gmatch(redis.call('GET', totals) or '', '\1([^\1\2]+)\2(%d+)') do
    all[#all + 1] = article
    all[#all + 1] = views
  end
  return all
end

-- Adds the totals of the newest sealed generation, which stand by themselves, to the backlog, and packs them. Answers
-- false, and has changed nothing, if they hold anything else than numbers.
local function merge(newest, totals, backlog)
  local articles, counts = counts_of(redis.call('HGETALL', newest))
  if not articles or not add(backlog, articles, counts, 1) then return false end
  pack(totals, articles, counts)
  redis.call('UNLINK', newest)
  return true
end

