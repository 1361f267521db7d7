-- Forgets generations that MySQL has, and moves the cached values of their articles along, so that a
-- reader sees a view neither twice nor not at all (I8). A repeat does nothing.
-- KEYS: meta, headers, backlog, newest, then totals, log per generation, then live per article
-- ARGV: epoch, the version that names the live keys, the version in MySQL, first generation, last generation, views,
--       TTL (ms) of a cached value whose article is being viewed, then article, its views, its new readers (or '' where
--       unknown: its cached value is dropped instead)
local first, last = tonumber(ARGV[4]), tonumber(ARGV[5])
if meta.first > last then return {'OK', meta.gen, meta.first} end
if meta.first ~= first or last >= meta.gen or meta.version ~= tonumber(ARGV[2]) then return {'MOVED'} end

local articles, counts, readers = {}, {}, {}
for i = 8, #ARGV, 3 do
  local n = #articles + 1
  articles[n], counts[n], readers[n] = ARGV[i], ARGV[i + 1], ARGV[i + 2]
end
-- The newest generation is not in the backlog, unless it was acknowledged together with older ones.
local has_newest = last == meta.gen - 1 and redis.call('EXISTS', KEYS[4]) == 1
if not (has_newest and first == last) then
  if has_newest and not merge(KEYS[4], KEYS[3 + 2 * (last - first + 1)], KEYS[3]) then return {'DAMAGED', last} end
  if not add(KEYS[3], articles, counts, -1) then return {'DAMAGED', first} end
end
local live = 4 + 2 * (last - first + 1) -- their keys come behind this one
for from = 1, #articles, 500 do -- see `add`
  local to = math.min(from + 499, #articles)
  local cached = redis.call('MGET', unpack(KEYS, live + from, live + to))
  for i = from, to do
    local value, key = cached[i - from + 1], KEYS[live + i]
    if value then
      local had_views, had_readers = string.match(value, '^(%d+):(%d+)$')
      if had_views and readers[i] ~= '' then
        value = string.format('%d:%d', had_views + counts[i], had_readers + readers[i])
        redis.call('SET', key, value, 'KEEPTTL')
        redis.call('PEXPIRE', key, ARGV[7], 'GT')
      else
        redis.call('DEL', key)
      end
    end
  end
end
for generation = first, last do
  redis.call('HDEL', KEYS[2], generation)
  local k = 4 + 2 * (generation - first)
  redis.call('UNLINK', KEYS[k + 1], KEYS[k + 2])
end
if has_newest then redis.call('UNLINK', KEYS[4]) end
redis.call('HINCRBY', KEYS[1], 'sealed_views', -ARGV[6])
redis.call('HSET', KEYS[1], 'first', last + 1)
if tonumber(ARGV[3]) > meta.version then redis.call('HSET', KEYS[1], 'version', ARGV[3]) end
return {'OK', meta.gen, last + 1}
