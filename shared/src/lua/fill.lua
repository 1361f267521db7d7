-- Takes a value read from MySQL at generation `fence`, caches it if nothing moved since and there is room, and answers
-- what is pending above that generation.
-- KEYS: meta, headers, backlog, newest, totals, live, then totals of the generations up to `fence` that may not be
--       acknowledged
-- ARGV: epoch, article, TTL (ms), version, fence, views, readers, the version in MySQL
if tonumber(ARGV[8]) > meta.version then redis.call('HSET', KEYS[1], 'version', ARGV[8]) end
if meta.version ~= tonumber(ARGV[4]) or tonumber(ARGV[8]) ~= meta.version then return {'EPOCH'} end
local fence = tonumber(ARGV[5])
if fence < meta.first - 1 then return {'MOVED'} end
local function views(key) return tonumber(redis.call('HGET', key, ARGV[2])) or 0 end
local pending = views(KEYS[3]) + views(KEYS[5])
if fence < meta.gen - 1 then pending = pending + views(KEYS[4]) end
for i = 7, #KEYS do -- committed; not there any more if acknowledged meanwhile
  local text = redis.call('GET', KEYS[i]) or ''
  local _, at = string.find(text, '\1' .. ARGV[2] .. '\2', 1, true)
  if at then pending = pending - (tonumber(string.match(text, '^%d+', at + 1)) or 0) end
end
local percent = memory_percent()
if fence == meta.first - 1 and percent < 100 then
  redis.call('SET', KEYS[6], ARGV[6] .. ':' .. ARGV[7], 'PX', ARGV[3]) -- what is there belongs to the same position
end
return {'OK', pending, stored_until(KEYS[2]), is_behind() and 1 or 0, percent}
