-- Makes one log of a data set that the version before has left: its generations are lists of the same batches. Nobody may
-- use it until it is opened again.
-- KEYS: meta, log, headers, totals, backlog, newest, log while it is made, then log, totals per generation from `first` on
-- ARGV: new epoch, the data set's epoch, first, gen, the fence's position: MySQL has the generations up to there
local old = redis.call('HMGET', KEYS[1], 'gen', 'first')
if meta.tail or meta.epoch ~= ARGV[2] or old[2] ~= ARGV[3] or old[1] ~= ARGV[4] then return {'MOVED'} end
local first, gen, position = tonumber(old[2]), tonumber(old[1]), tonumber(ARGV[5])
local count, appended = 0, 0

local function carry(log, came, views)
  local entries = redis.call('LRANGE', log, 0, -1)
  for i = 1, #entries do
    if i == #entries then appended = appended + views end
    redis.call('RPUSH', KEYS[7], string.format('%d:%d:', came, appended) .. entries[i])
  end
  count = count + #entries
end

redis.call('DEL', KEYS[7])
for generation = first, gen - 1 do
  local k = 8 + 2 * (generation - first)
  if generation > position then
    local views, opened = string.match(redis.call('HGET', KEYS[3], generation) or '', '^%d+:(%d+):(%d+)$')
    carry(KEYS[k], tonumber(opened) or 0, tonumber(views) or 0)
  end
  redis.call('UNLINK', KEYS[k], KEYS[k + 1])
end
local open = redis.call('HMGET', KEYS[1], 'opened', 'views')
if gen > position then carry(KEYS[2], tonumber(open[1]) or 0, tonumber(open[2]) or 0) end
redis.call('UNLINK', KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6])
if count > 0 then redis.call('RENAME', KEYS[7], KEYS[2]) end
redis.call('HDEL', KEYS[1], 'gen', 'views', 'batches', 'opened', 'sealed_views', 'incarnation')
redis.call('HSET', KEYS[1], 'first', string.format('%d', position + 1), 'tail', string.format('%d', position + count),
  'appended', string.format('%d', appended), 'acked', 0)
return {'OK', position + 1, position + count}
