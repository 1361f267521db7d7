-- Trims the entries that MySQL has. A repeat does nothing.
-- KEYS: meta, log
-- ARGV: epoch, the last position in MySQL, the version in MySQL, 1 if all bases were moved along: else none that stands
--       below that position is valid any more
if tonumber(ARGV[3]) > meta.version then redis.call('HSET', KEYS[1], 'version', ARGV[3]) end
local last = tonumber(ARGV[2])
if last < meta.first then return {'OK', meta.tail, meta.first} end
local _, appended = envelope(redis.call('LINDEX', KEYS[2], last - meta.first))
if not appended or last > meta.tail then return {'DAMAGED'} end
redis.call('LTRIM', KEYS[2], last - meta.first + 1, -1)
local oldest = last < meta.tail and envelope(redis.call('LINDEX', KEYS[2], 0)) or 0
redis.call('HSET', KEYS[1], 'first', last + 1, 'acked', string.format('%d', appended), 'oldest', oldest)
if ARGV[4] ~= '1' then redis.call('HSET', KEYS[1], 'valid_from', last, 'fill_from', last) end
return {'OK', meta.tail, last + 1}
