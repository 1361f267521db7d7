-- Notes up to when a base may be cached: flushes look for none after that.
local function cached_until(ms)
  local known = tonumber(redis.call('HGET', KEYS[1], 'cached_until')) or 0
  if ms > known then redis.call('HSET', KEYS[1], 'cached_until', string.format('%d', ms)) end
end

