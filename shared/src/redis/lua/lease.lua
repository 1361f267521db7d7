-- Takes or renews the lease, or gives it back with a duration of 0; answers 1 to its holder.
-- KEYS: lease   ARGV: holder, duration (ms)
local holder, duration = redis.call('GET', KEYS[1]), tonumber(ARGV[2])
local is_taken = holder and holder ~= ARGV[1]
if duration == 0 then
  if not is_taken then redis.call('DEL', KEYS[1]) end
  return is_taken and 0 or 1
end
-- One that would last longer than any does is from before the clock was set back: void.
if is_taken and redis.call('PTTL', KEYS[1]) <= duration then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
