-- Looks articles up. A value whose time to live is over is kept for a while, should MySQL be away: it is exact as long as
-- it is there, because flushes move it along. One of zero is not: anybody can ask for what was never read.
-- KEYS: meta, headers, backlog, newest, totals, then live per article
-- ARGV: epoch, version, for how long (ms) a value is kept beyond its time to live, then article, TTL (ms), ...
if meta.version ~= tonumber(ARGV[2]) then return {'EPOCH'} end
local articles = {}
local kept = tonumber(ARGV[3])
for i = 4, #ARGV, 2 do articles[#articles + 1] = ARGV[i] end
local sealed = redis.call('HMGET', KEYS[3], unpack(articles))
local newest = redis.call('HMGET', KEYS[4], unpack(articles))
local open = redis.call('HMGET', KEYS[5], unpack(articles))
local live = redis.call('MGET', unpack(KEYS, 6))
local reply = {'OK', meta.first, stored_until(KEYS[2]), is_behind() and 1 or 0, memory_percent()}
for i = 1, #articles do
  local views, readers, is_fresh
  if live[i] then
    views, readers = string.match(live[i], '^(%d+):(%d+)$')
    if views then
      local key, ttl = KEYS[5 + i], tonumber(ARGV[3 + 2 * i])
      local beyond = views ~= '0' and kept or 0
      local left = redis.call('PTTL', key) - beyond
      is_fresh = left > 0
      -- One that is being viewed lives longer. One that was touched a moment ago need not be written to again.
      if not is_fresh then
        redis.call('PEXPIRE', key, beyond, 'GT')
      elseif left < 0.9 * ttl then
        redis.call('PEXPIRE', key, string.format('%d', ttl + beyond), 'GT')
      end
    else
      redis.call('DEL', KEYS[5 + i])
    end
  end
  reply[#reply + 1] = (sealed[i] or 0) + (newest[i] or 0) + (open[i] or 0)
  reply[#reply + 1] = tonumber(views) or false
  reply[#reply + 1] = tonumber(readers) or false
  reply[#reply + 1] = is_fresh and 1 or 0
end
return reply
