-- Looks articles up.
-- KEYS: meta, headers, backlog, newest, totals, then live per article   ARGV: epoch, version, then article, TTL (ms), ...
if meta.version ~= tonumber(ARGV[2]) then return {'EPOCH'} end
local articles = {}
for i = 3, #ARGV, 2 do articles[#articles + 1] = ARGV[i] end
local sealed = redis.call('HMGET', KEYS[3], unpack(articles))
local newest = redis.call('HMGET', KEYS[4], unpack(articles))
local open = redis.call('HMGET', KEYS[5], unpack(articles))
local live = redis.call('MGET', unpack(KEYS, 6))
local reply = {'OK', meta.first, stored_until(KEYS[2]), memory_percent()}
for i = 1, #articles do
  local views, readers
  if live[i] then
    views, readers = string.match(live[i], '^(%d+):(%d+)$')
    if views then
      redis.call('PEXPIRE', KEYS[5 + i], ARGV[2 + 2 * i], 'GT') -- one that is being viewed lives longer
    else
      redis.call('DEL', KEYS[5 + i])
    end
  end
  reply[#reply + 1] = (sealed[i] or 0) + (newest[i] or 0) + (open[i] or 0)
  reply[#reply + 1] = tonumber(views) or false
  reply[#reply + 1] = tonumber(readers) or false
end
return reply
