-- Takes or renews the lease, or gives it back with a duration of 0; answers 1 to its holder.
-- KEYS: lease   ARGV: holder, duration (ms)
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return 1
