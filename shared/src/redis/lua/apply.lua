-- Appends one batch to the log, once. Its cost does not depend on the articles in it.
-- KEYS: meta, producers, log, ids, ids before
-- ARGV: epoch, producer, number, views, cumulative views, packed batch, most ids in a set, then of each view that has an
--       id: the hash that is remembered, and the id as it is, which versions before this one remembered
local last = redis.call('HGET', KEYS[2], ARGV[2])
if not last then return {'BEHIND'} end -- not registered in this data set
last = tonumber(string.match(last, '^%d+'))
local number = tonumber(ARGV[3])
if number <= last then return {'OK', meta.tail, meta.first} end -- a repeat (I2)
if number ~= last + 1 then return {'BEHIND'} end

local ids = 8
if ids <= #ARGV then
  local seen = {'SEEN'}
  for from = ids, #ARGV, 1000 do -- Lua's stack has a bound
    local to = math.min(from + 999, #ARGV)
    local lately = redis.call('SMISMEMBER', KEYS[4], unpack(ARGV, from, to))
    local before = redis.call('SMISMEMBER', KEYS[5], unpack(ARGV, from, to))
    for i = 1, #lately, 2 do
      if lately[i] + lately[i + 1] + before[i] + before[i + 1] > 0 then seen[#seen + 1] = (from - ids + i - 1) / 2 end
    end
  end
  if #seen > 1 then return seen end -- the caller leaves these out and sends the same number again
end

local now = now_ms()
local appended = string.format('%d', meta.appended + ARGV[4])
local length = redis.call('RPUSH', KEYS[3], string.format('%d', now) .. ':' .. appended .. ':' .. ARGV[6])
if length ~= meta.tail - meta.first + 2 then -- an entry is gone, and this one must not seem to stand for it
  redis.call('RPOP', KEYS[3])
  return {'DAMAGED'}
end
if length == 1 then redis.call('HSET', KEYS[1], 'oldest', now) end
redis.call('HSET', KEYS[1], 'tail', meta.tail + 1, 'appended', appended)
-- Last of all: should anything above stumble, the batch is not taken, and its repeat must not find itself.
if ids <= #ARGV then
  local hashes = {}
  for i = ids, #ARGV, 2 do hashes[#hashes + 1] = ARGV[i] end
  local added = redis.call('SCARD', KEYS[4])
  if added > 0 and added + #hashes > tonumber(ARGV[7]) then forget(KEYS[4], KEYS[5], true) end
  for from = 1, #hashes, 1000 do
    redis.call('SADD', KEYS[4], unpack(hashes, from, math.min(from + 999, #hashes)))
  end
end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3] .. ':' .. ARGV[5])
return {'OK', meta.tail + 1, meta.first}
