-- Moves cached bases along with a flush, so that a reader sees a view neither twice nor not at all (I8). Before the trim:
-- until then either form of a base is right.
-- KEYS: meta, live per article
-- ARGV: epoch, the position before the flush, its last position, TTL (ms) of a base whose article is being viewed, then per
--       article its views, its new readers (or '' where unknown: the base is dropped instead)
-- Answers 0 if nothing was read for so long that no base is left.
if now_ms() > (tonumber(redis.call('HGET', KEYS[1], 'cached_until')) or 0) then return {'OK', 0} end
local before, last = tonumber(ARGV[2]), tonumber(ARGV[3])
local live = redis.call('MGET', unpack(KEYS, 2))
for i = 1, #live do
  if live[i] then
    local key, views, readers = KEYS[1 + i], ARGV[3 + 2 * i], ARGV[4 + 2 * i]
    local had_views, had_readers, position = string.match(live[i], '^(%d+):(%d+):(%d+)$')
    position = tonumber(position)
    if position == before and readers ~= '' then
      redis.call('SET', key, string.format('%d:%d:%d', had_views + views, had_readers + readers, last), 'KEEPTTL')
      redis.call('PEXPIRE', key, ARGV[4], 'GT')
    elseif not position or position < last then
      redis.call('DEL', key)
    end
  end
end
cached_until(now_ms() + ARGV[4])
return {'OK', 1}
