-- Opens this data set, on this incarnation, under a new epoch that MySQL has handed out.
-- KEYS: meta, producers, headers, backlog, ids, ids before, dirty, totals, log (open), then dirty, totals, log, aside
--       of each generation from `first` to `gen` of the data set (`gen` too: the open one may be sealed)
-- ARGV: new epoch, incarnation, the data set's epoch, first, gen ('' if it has none), fence's generation,
--       keep (1) or set aside (0), shards, version, then producer, number:views, ... as fenced in MySQL
if ARGV[2] ~= incarnation() then return {'MOVED'} end
if (meta.epoch or '') ~= ARGV[3] or tostring(meta.first or '') ~= ARGV[4] or tostring(meta.gen or '') ~= ARGV[5] then
  return {'MOVED'}
end
local fence, keep = tonumber(ARGV[6]), ARGV[7] == '1'
local open, sealed_views, aside = fence + 1, 0, 0
local function keys_of(generation)
  local k = 9 + 4 * (generation - meta.first)
  return KEYS[k + 1], KEYS[k + 2], KEYS[k + 3], KEYS[k + 4]
end

if meta.epoch and keep then
  sealed_views = meta.sealed_views
  local last = meta.gen - 1 -- the last sealed generation
  local batches = redis.call('LLEN', KEYS[9])
  if batches > 0 then -- the open generation is sealed like any other
    last = meta.gen
    local dirty, totals, log = keys_of(last)
    redis.call('HSET', KEYS[3], last, string.format('%d:%d:%d', batches, meta.views, meta.opened))
    for _, article in ipairs(redis.call('LRANGE', KEYS[7], 0, -1)) do
      redis.call('HINCRBY', KEYS[4], article, redis.call('HGET', KEYS[8], article))
    end
    redis.call('RENAME', KEYS[9], log)
    if meta.views > 0 then
      redis.call('RENAME', KEYS[7], dirty)
      redis.call('RENAME', KEYS[8], totals)
    end
    sealed_views = sealed_views + meta.views
  end

  local nothing_is_left = fence >= last
  for generation = meta.first, math.min(fence, last) do -- MySQL has these
    local dirty, totals, log = keys_of(generation)
    if not nothing_is_left then
      for _, article in ipairs(redis.call('LRANGE', dirty, 0, -1)) do
        local views = redis.call('HGET', totals, article)
        if redis.call('HINCRBY', KEYS[4], article, -views) <= 0 then redis.call('HDEL', KEYS[4], article) end
      end
      local header = redis.call('HGET', KEYS[3], generation) or ''
      sealed_views = sealed_views - (tonumber(string.match(header, ':(%d+):')) or 0)
      redis.call('HDEL', KEYS[3], generation)
    end
    redis.call('UNLINK', dirty, totals, log)
  end
  if nothing_is_left then -- the usual case after older data came back, and far cheaper
    redis.call('DEL', KEYS[3], KEYS[4])
    sealed_views = 0
  end
  open = math.max(fence, last) + 1
elseif meta.epoch then
  -- An overtaken history, or one that does not add up: nothing in it may be flushed. Its batches are kept for a person
  -- to look at; nothing else is read, for it may be damaged. The producers send again what MySQL does not have.
  if redis.call('EXISTS', KEYS[9]) == 1 then
    local _, _, log = keys_of(meta.gen)
    redis.call('RENAME', KEYS[9], log)
  end
  for generation = meta.first, meta.gen do
    local dirty, totals, log, put_aside = keys_of(generation)
    if redis.call('EXISTS', log) == 1 then
      redis.call('RENAME', log, put_aside)
      aside = aside + 1
    end
    redis.call('UNLINK', dirty, totals)
  end
  redis.call('DEL', KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8])
end

for i = 10, #ARGV, 2 do -- I2: no producer may send again what MySQL has
  local known = redis.call('HGET', KEYS[2], ARGV[i]) or '-1'
  if tonumber(string.match(known, '^-?%d+')) < tonumber(string.match(ARGV[i + 1], '^%d+')) then
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
  end
end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'incarnation', ARGV[2], 'gen', open, 'first', fence + 1,
  'views', 0, 'opened', 0, 'sealed_views', sealed_views, 'shards', ARGV[8],
  'version', math.max(meta.version or 0, tonumber(ARGV[9])), 'rotation', meta.rotation or 0)
return {'OK', aside}
