-- Appends one batch to the open generation, once.
-- KEYS: meta, producers, dirty, totals, log
-- ARGV: epoch, producer, number, generation cap (views), views, packed batch, then article, views, ...
local last = redis.call('HGET', KEYS[2], ARGV[2])
if not last then return {'BEHIND'} end -- not registered in this data set
last = tonumber(last)
local number = tonumber(ARGV[3])
if number <= last then return {'OK', meta.gen, meta.first} end -- a repeat (I2)
if number ~= last + 1 then return {'BEHIND'} end
if meta.views >= tonumber(ARGV[4]) then return {'FULL', meta.gen} end

redis.call('RPUSH', KEYS[5], ARGV[6])
for i = 7, #ARGV, 2 do
  local views = ARGV[i + 1]
  if redis.call('HINCRBY', KEYS[4], ARGV[i], views) == tonumber(views) then
    redis.call('RPUSH', KEYS[3], ARGV[i]) -- its first touch in this generation
  end
end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
if meta.views == 0 then redis.call('HSET', KEYS[1], 'opened', now_ms()) end
redis.call('HINCRBY', KEYS[1], 'views', ARGV[5])
return {'OK', meta.gen, meta.first}
