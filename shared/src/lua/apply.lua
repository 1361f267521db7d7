-- Appends one batch to the open generation, once.
-- KEYS: meta, producers, totals, log, ids, ids before
-- ARGV: epoch, producer, number, generation cap (views), views, cumulative views, packed batch, number of articles,
--       then article, views, ... then the ids of its views that have one
local last = redis.call('HGET', KEYS[2], ARGV[2])
if not last then return {'BEHIND'} end -- not registered in this data set
last = tonumber(string.match(last, '^%d+'))
local number = tonumber(ARGV[3])
if number <= last then return {'OK', meta.gen, meta.first} end -- a repeat (I2)
if number ~= last + 1 then return {'BEHIND'} end
if meta.views >= tonumber(ARGV[4]) then return {'FULL', meta.gen} end

local ids = 9 + 2 * ARGV[8]
if ids <= #ARGV then
  local seen = {'SEEN'}
  for i = ids, #ARGV do
    if redis.call('SISMEMBER', KEYS[5], ARGV[i]) == 1 or redis.call('SISMEMBER', KEYS[6], ARGV[i]) == 1 then
      seen[#seen + 1] = i - ids
    end
  end
  if #seen > 1 then return seen end -- the caller leaves these out and sends the same number again
end

local articles, counts = {}, {}
for i = 9, ids - 1, 2 do
  articles[#articles + 1], counts[#counts + 1] = ARGV[i], ARGV[i + 1]
end
if not add(KEYS[3], articles, counts, 1) then return {'DAMAGED', meta.gen} end
if redis.call('RPUSH', KEYS[4], ARGV[7]) == 1 then redis.call('HSET', KEYS[1], 'opened', now_ms()) end
redis.call('HSET', KEYS[1], 'views', string.format('%d', meta.views + ARGV[5]), 'batches',
  string.format('%d', meta.batches + 1))
-- Last of all: should anything above stumble, the batch is not taken, and its repeat must not find itself.
for i = ids, #ARGV do redis.call('SADD', KEYS[5], ARGV[i]) end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3] .. ':' .. ARGV[6])
return {'OK', meta.gen, meta.first}
