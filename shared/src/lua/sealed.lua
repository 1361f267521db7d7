-- A sealed generation. In one step with the look at epoch and incarnation: a connection that was made again may lead to
-- another server, where the same number means another generation.
-- KEYS: meta, headers, totals, log, newest   ARGV: epoch, generation
local is_newest = tonumber(ARGV[2]) == meta.gen - 1 and redis.call('EXISTS', KEYS[5]) == 1
return {
  'OK', redis.call('HGET', KEYS[2], ARGV[2]) or '', redis.call('LRANGE', KEYS[4], 0, -1),
  is_newest and redis.call('HGETALL', KEYS[5]) or redis.call('GET', KEYS[3]) or '',
}
