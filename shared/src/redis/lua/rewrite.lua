-- Replaces records of a log that was set aside, all of them or, if one is not as the caller saw it, none.
-- KEYS: aside   ARGV: index, old record, new record, ...
for i = 1, #ARGV, 3 do
  if redis.call('LINDEX', KEYS[1], ARGV[i]) ~= ARGV[i + 1] then return 0 end
end
for i = 1, #ARGV, 3 do redis.call('LSET', KEYS[1], ARGV[i], ARGV[i + 2]) end
return 1
