-- Moves the cached bases of some articles along with a flush that is in MySQL, so that a reader sees a view neither twice
-- nor not at all when it is trimmed (I8). Only for the flush that is trimmed next: the bases of an earlier one must have been
-- moved. From the first call on no base that lacks this flush is let in.
-- KEYS: meta, live per article
-- ARGV: epoch, the position before the flush, its last position, TTL (ms) of a base whose article is being viewed, then per
--       article its views and its new readers
-- Answers 0 if nothing was read for so long that no base is left.
local before, last = tonumber(ARGV[2]), tonumber(ARGV[3])
if before ~= meta.first - 1 then return {'MOVED'} end
if last > meta.fill_from then redis.call('HSET', KEYS[1], 'fill_from', ARGV[3]) end
if now_ms() > (tonumber(redis.call('HGET', KEYS[1], 'cached_until')) or 0) then return {'OK', 0} end
local live = redis.call('MGET', unpack(KEYS, 2))
for i = 1, #live do
  if live[i] then
    local views, readers, position = string.match(live[i], '^(%d+):(%d+):(%d+)$')
    position = tonumber(position)
    if not position or position < meta.valid_from then
      redis.call('DEL', KEYS[1 + i])
    elseif position <= before then
      local moved = string.format('%d:%d:%d', views + ARGV[3 + 2 * i], readers + ARGV[4 + 2 * i], last)
      redis.call('SET', KEYS[1 + i], moved, 'KEEPTTL')
      redis.call('PEXPIRE', KEYS[1 + i], ARGV[4], 'GT')
    end
  end
end
cached_until(now_ms() + ARGV[4])
return {'OK', 1}
