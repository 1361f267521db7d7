-- Forgets generations that MySQL has, and moves the cached values of their articles along, so that a
-- reader sees a view neither twice nor not at all (I8). A repeat does nothing.
-- KEYS: meta, headers, backlog, then dirty, totals, log per generation, then live per article
-- ARGV: epoch, the version that names the live keys, the version in MySQL, first generation, last generation, views,
--       TTL (ms) of a cached value whose article is being viewed, then article, its views, its new readers (or '' where
--       unknown: its cached value is dropped instead)
local first, last = tonumber(ARGV[4]), tonumber(ARGV[5])
if meta.first > last then return {'OK', meta.gen, meta.first} end
if meta.first ~= first or last >= meta.gen or meta.version ~= tonumber(ARGV[2]) then return {'MOVED'} end

local articles, counts = {}, {}
for i = 8, #ARGV, 3 do
  articles[#articles + 1], counts[#counts + 1] = ARGV[i], ARGV[i + 1]
end
add(KEYS[3], articles, counts, -1)
local live = 3 + 3 * (last - first + 1)
for i = 8, #ARGV, 3 do
  live = live + 1
  local views, readers = ARGV[i + 1], ARGV[i + 2]
  if readers == '' then
    redis.call('DEL', KEYS[live])
  elseif redis.call('EXISTS', KEYS[live]) == 1 then
    redis.call('HINCRBY', KEYS[live], 'views', views)
    redis.call('HINCRBY', KEYS[live], 'readers', readers)
    redis.call('PEXPIRE', KEYS[live], ARGV[7], 'GT')
  end
end
for generation = first, last do
  redis.call('HDEL', KEYS[2], generation)
  local k = 3 + 3 * (generation - first)
  redis.call('UNLINK', KEYS[k + 1], KEYS[k + 2], KEYS[k + 3])
end
redis.call('HINCRBY', KEYS[1], 'sealed_views', -ARGV[6])
redis.call('HSET', KEYS[1], 'first', last + 1)
if tonumber(ARGV[3]) > meta.version then redis.call('HSET', KEYS[1], 'version', ARGV[3]) end
return {'OK', meta.gen, last + 1}
