-- Notes words in hashes. A script, because Redis refuses HSET by itself when its memory is full, and who watches must
-- see just then who is there and where views wait.
-- KEYS: hashes   ARGV: a field and a value for each
for i = 1, #KEYS do redis.call('HSET', KEYS[i], ARGV[2 * i - 1], ARGV[2 * i]) end
return 1
