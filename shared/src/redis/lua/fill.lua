-- Takes a base read from MySQL at a position, and caches it if it lacks nothing that was trimmed, no flush is moving bases
-- past it, and there is room.
-- KEYS: meta, live   ARGV: epoch, version, position, views, readers, TTL (ms), the version in MySQL
if tonumber(ARGV[7]) > meta.version then redis.call('HSET', KEYS[1], 'version', ARGV[7]) end
if meta.version ~= tonumber(ARGV[2]) or tonumber(ARGV[7]) ~= meta.version then return {'EPOCH'} end
local position = tonumber(ARGV[3])
if position < meta.first - 1 or position < meta.fill_from then return {'MOVED'} end
local held = redis.call('GET', KEYS[2])
local held_at = tonumber(string.match(held or '', ':(%d+)$')) or -1
if held_at <= position and memory_percent() < 100 then
  redis.call('SET', KEYS[2], ARGV[4] .. ':' .. ARGV[5] .. ':' .. ARGV[3], 'PX', ARGV[6])
end
cached_until(now_ms() + ARGV[6])
return {'OK'}
