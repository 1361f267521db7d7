-- Several commands that only read, at one moment. MULTI would do as well, but for a full memory: whatever is queued in one
-- is refused then.
-- KEYS: the key of each command   ARGV: for each command its name, how many words follow the key, these words
local replies, at = {}, 1
for i = 1, #KEYS do
  local last = at + 1 + ARGV[at + 1]
  replies[i] = redis.call(ARGV[at], KEYS[i], unpack(ARGV, at + 2, last))
  at = last + 1
end
return replies
