-- Answers for a data set that nobody has opened yet too, and for one that is damaged, so that it can be set aside.
-- KEYS: meta, totals, headers, log, producers, backlog, newest, ids, ids before   ARGV: none
if not meta.epoch then return {'NONE', incarnation()} end
local damaged = 0
local function number(reply)
  if type(reply) == 'number' then return reply end
  damaged = 1
  return 0
end
local articles, batches = number(redis.pcall('HLEN', KEYS[2])), number(redis.pcall('LLEN', KEYS[4]))
local headers = number(redis.pcall('HLEN', KEYS[3]))
for key = 5, 7 do number(redis.pcall('HLEN', KEYS[key])) end
local ids, ids_before = number(redis.pcall('SCARD', KEYS[8])), number(redis.pcall('SCARD', KEYS[9]))
local remembered = redis.call('HMGET', KEYS[1], 'ids_from', 'ids_early')
local ids_from = tonumber(remembered[1]) or 0 -- 0: a version that did not note it
if batches ~= meta.batches or headers ~= meta.gen - meta.first then damaged = 1 end
local until_ms = damaged == 0 and stored_until(KEYS[3]) or 0
return {
  meta.incarnation == incarnation() and 'CURRENT' or 'STALE', incarnation(), tonumber(meta.epoch),
  meta.gen, meta.first, meta.views, meta.sealed_views,
  articles, math.max(0, now_ms() - until_ms), meta.batches, meta.version, meta.rotation, damaged,
  is_behind() and 1 or 0,
  ids, ids_before, ids_from > 0 and math.max(0, now_ms() - ids_from) or 0, tonumber(remembered[2]) or 0,
}
