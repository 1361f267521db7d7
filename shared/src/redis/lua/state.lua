-- Answers for a data set that nobody has opened yet too, and for one that is damaged, so that it can be set aside.
-- KEYS: meta, log, producers, ids, ids before   ARGV: none
if not meta.epoch then return {'NONE', incarnation()} end
local gen = redis.call('HGET', KEYS[1], 'gen')
if gen then return {'BEFORE', incarnation(), tonumber(meta.epoch), tonumber(gen), meta.first, meta.version} end
local damaged = 0
local function number(reply)
  if type(reply) == 'number' then return reply end
  damaged = 1
  return 0
end
local entries = number(redis.pcall('LLEN', KEYS[2]))
-- Producers that are gone would begin anew, although MySQL has batches of theirs. A version before did not note it.
local noted, opened = redis.call('HGET', KEYS[1], 'producers_epoch'), redis.pcall('HGET', KEYS[3], 'epoch')
if type(opened) == 'table' or noted == meta.epoch and opened ~= noted then damaged = 1 end
local ids, ids_before = number(redis.pcall('SCARD', KEYS[4])), number(redis.pcall('SCARD', KEYS[5]))
local remembered = redis.call('HMGET', KEYS[1], 'ids_from', 'ids_early')
local ids_from = tonumber(remembered[1]) or 0 -- 0: a version that did not note it
if entries ~= meta.tail - meta.first + 1 then damaged = 1 end
return {
  meta.incarnation == incarnation() and 'CURRENT' or 'STALE', incarnation(), tonumber(meta.epoch),
  meta.tail, meta.first, meta.appended - meta.acked, math.max(0, now_ms() - stored_until()), meta.version, meta.rotation,
  damaged, is_behind() and 1 or 0,
  ids, ids_before, ids_from > 0 and math.max(0, now_ms() - ids_from) or 0, tonumber(remembered[2]) or 0,
}
