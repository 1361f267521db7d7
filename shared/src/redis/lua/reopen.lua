-- Opens this data set, on this incarnation, under a new epoch that MySQL has handed out.
-- KEYS: meta, producers, log, ids, ids before, aside
-- ARGV: new epoch, incarnation, the data set's epoch and first ('' if it has none), the fence's position,
--       keep (1) or set aside (0), shards, version, then producer, number:views, ... as fenced in MySQL
-- The tail may have moved since the caller looked: while the data set is open under an older epoch, ingests append to it.
if ARGV[2] ~= incarnation() or ARGV[2] == 'replica' then return {'MOVED'} end
if (meta.epoch or '') ~= ARGV[3] or tostring(meta.first or '') ~= ARGV[4] then return {'MOVED'} end
local position, keep, aside = tonumber(ARGV[5]), ARGV[6] == '1', 0
local tail, appended, acked, oldest = position, meta.appended, meta.appended, 0

if meta.epoch and keep then
  if redis.call('LLEN', KEYS[3]) ~= meta.tail - meta.first + 1 then return {'DAMAGED'} end
  if position < meta.tail then
    tail, acked = meta.tail, meta.acked
    if position >= meta.first then -- MySQL has these
      local _, stored = envelope(redis.call('LINDEX', KEYS[3], position - meta.first))
      if not stored then return {'DAMAGED'} end
      acked = stored
    end
    oldest = envelope(redis.call('LINDEX', KEYS[3], position + 1 - meta.first))
    if not oldest then return {'DAMAGED'} end
    redis.call('LTRIM', KEYS[3], position + 1 - meta.first, -1)
  else
    redis.call('UNLINK', KEYS[3])
  end
else
  -- An overtaken history, one that does not add up, or what is left of one without its meta: nothing in it may be flushed.
  -- Its batches are kept for a person to look at; nothing else is read, for it may be damaged. The producers send again what
  -- MySQL does not have.
  if redis.call('EXISTS', KEYS[3]) == 1 then
    redis.call('RENAME', KEYS[3], KEYS[6])
    aside = 1
  end
  redis.call('DEL', KEYS[2], KEYS[4], KEYS[5])
end

for i = 9, #ARGV, 2 do -- I2: no producer may send again what MySQL has
  local known = redis.call('HGET', KEYS[2], ARGV[i]) or '-1'
  if tonumber(string.match(known, '^-?%d+')) < tonumber(string.match(ARGV[i + 1], '^%d+')) then
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
  end
end
-- So that it is seen if they are lost while all else is kept: see the script `state`.
redis.call('HSET', KEYS[2], 'epoch', ARGV[1])
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'producers_epoch', ARGV[1], 'incarnation', ARGV[2],
  'first', string.format('%d', position + 1), 'tail', string.format('%d', tail),
  'appended', string.format('%d', appended), 'acked', string.format('%d', acked), 'oldest', oldest,
  'shards', ARGV[7], 'version', math.max(meta.version, tonumber(ARGV[8])), 'rotation', meta.rotation,
  -- Whatever a Redis comes back with, ingests may know of more; before the first epoch there was nothing.
  'valid_from', ARGV[5], 'fill_from', ARGV[5],
  'behind', tonumber(ARGV[1]) > 1 and now_ms() + BEHIND_MS or 0)
if not (meta.epoch and keep) then redis.call('HSET', KEYS[1], 'ids_from', now_ms(), 'ids_turn', now_ms()) end
return {'OK', aside}
