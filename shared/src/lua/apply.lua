-- Appends one batch to the open generation, once.
-- KEYS: meta, producers, totals, log, ids, ids before
-- ARGV: epoch, producer, number, generation cap (views), views, cumulative views, packed batch, most ids in a set,
--       number of articles, then article, views, ... then of each view that has an id: the hash that is remembered, and
--       the id as it is, which versions before this one remembered
local last = redis.call('HGET', KEYS[2], ARGV[2])
if not last then return {'BEHIND'} end -- not registered in this data set
last = tonumber(string.match(last, '^%d+'))
local number = tonumber(ARGV[3])
if number <= last then return {'OK', meta.gen, meta.first} end -- a repeat (I2)
if number ~= last + 1 then return {'BEHIND'} end
if meta.views >= tonumber(ARGV[4]) then return {'FULL', meta.gen} end

local ids = 10 + 2 * ARGV[9]
if ids <= #ARGV then
  local seen = {'SEEN'}
  for from = ids, #ARGV, 1000 do -- see `add`
    local to = math.min(from + 999, #ARGV)
    local lately = redis.call('SMISMEMBER', KEYS[5], unpack(ARGV, from, to))
    local before = redis.call('SMISMEMBER', KEYS[6], unpack(ARGV, from, to))
    for i = 1, #lately, 2 do
      if lately[i] + lately[i + 1] + before[i] + before[i + 1] > 0 then seen[#seen + 1] = (from - ids + i - 1) / 2 end
    end
  end
  if #seen > 1 then return seen end -- the caller leaves these out and sends the same number again
end

local articles, counts = {}, {}
for i = 10, ids - 1, 2 do
  articles[#articles + 1], counts[#counts + 1] = ARGV[i], ARGV[i + 1]
end
if not add(KEYS[3], articles, counts, 1) then return {'DAMAGED', meta.gen} end
if redis.call('RPUSH', KEYS[4], ARGV[7]) == 1 then redis.call('HSET', KEYS[1], 'opened', now_ms()) end
redis.call('HSET', KEYS[1], 'views', string.format('%d', meta.views + ARGV[5]), 'batches',
  string.format('%d', meta.batches + 1))
-- Last of all: should anything above stumble, the batch is not taken, and its repeat must not find itself.
if ids <= #ARGV then
  local hashes = {}
  for i = ids, #ARGV, 2 do hashes[#hashes + 1] = ARGV[i] end
  local added = redis.call('SCARD', KEYS[5])
  if added > 0 and added + #hashes > tonumber(ARGV[8]) then forget(KEYS[5], KEYS[6], true) end
  for from = 1, #hashes, 1000 do
    redis.call('SADD', KEYS[5], unpack(hashes, from, math.min(from + 999, #hashes)))
  end
end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3] .. ':' .. ARGV[6])
return {'OK', meta.gen, meta.first}
