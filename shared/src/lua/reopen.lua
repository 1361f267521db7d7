-- Opens this data set, on this incarnation, under a new epoch that MySQL has handed out.
-- KEYS: meta, producers, headers, backlog, ids, ids before, totals, log (open), newest, then totals, log, aside of each
--       generation from `first` to `gen` of the data set (`gen` too: the open one may be sealed)
-- ARGV: new epoch, incarnation, the data set's epoch, first, gen ('' if it has none), fence's generation,
--       keep (1) or set aside (0), shards, version, then producer, number:views, ... as fenced in MySQL
if ARGV[2] ~= incarnation() then return {'MOVED'} end
if (meta.epoch or '') ~= ARGV[3] or tostring(meta.first or '') ~= ARGV[4] or tostring(meta.gen or '') ~= ARGV[5] then
  return {'MOVED'}
end
local fence, keep = tonumber(ARGV[6]), ARGV[7] == '1'
local open, sealed_views, aside = fence + 1, 0, 0
local function keys_of(generation)
  local k = 9 + 3 * (generation - meta.first)
  return KEYS[k + 1], KEYS[k + 2], KEYS[k + 3]
end

if meta.epoch and keep then
  local last = meta.batches > 0 and meta.gen or meta.gen - 1 -- the last generation that holds anything
  local nothing_is_left = fence >= last -- the usual case after older data came back, and far cheaper
  local articles, counts, gone = nil, nil, {}
  if not nothing_is_left then -- look at everything before anything is changed
    for _, views in ipairs(redis.call('HVALS', KEYS[4])) do
      if not tonumber(views) then return {'DAMAGED', meta.gen} end
    end
    local function contents(all, log, batches, views)
      local a, c, sum = counts_of(all)
      if sum == views and redis.call('LLEN', log) == batches then return a, c end
    end
    articles, counts = contents(redis.call('HGETALL', KEYS[7]), KEYS[8], meta.batches, meta.views)
    if not articles or redis.call('HLEN', KEYS[3]) ~= meta.gen - meta.first then return {'DAMAGED', meta.gen} end
    local has_newest = redis.call('EXISTS', KEYS[9]) == 1
    for generation = meta.first, fence do
      local totals, log = keys_of(generation)
      local is_newest = has_newest and generation == meta.gen - 1
      local all = is_newest and redis.call('HGETALL', KEYS[9]) or packed(totals)
      local batches, views = string.match(redis.call('HGET', KEYS[3], generation) or '', '^(%d+):(%d+):')
      local a, c = contents(all, log, tonumber(batches), tonumber(views))
      if not a then return {'DAMAGED', generation} end
      gone[generation] = {articles = a, counts = c, views = tonumber(views)}
    end
    if has_newest and (meta.first >= meta.gen or not merge(KEYS[9], keys_of(meta.gen - 1), KEYS[4])) then
      return {'DAMAGED', meta.gen - 1}
    end
  end
  sealed_views = meta.sealed_views
  if meta.batches > 0 and not nothing_is_left then -- the open generation is sealed like any other
    local totals, log = keys_of(last)
    redis.call('HSET', KEYS[3], last, string.format('%d:%d:%d', meta.batches, meta.views, meta.opened))
    add(KEYS[4], articles, counts, 1)
    redis.call('RENAME', KEYS[8], log)
    pack(totals, articles, counts)
    redis.call('UNLINK', KEYS[7])
    sealed_views = sealed_views + meta.views
  end
  for generation = meta.first, math.min(fence, last) do -- MySQL has these
    local totals, log = keys_of(generation)
    local part = gone[generation]
    if part then
      add(KEYS[4], part.articles, part.counts, -1)
      sealed_views = sealed_views - part.views
      redis.call('HDEL', KEYS[3], generation)
    end
    redis.call('UNLINK', totals, log)
  end
  if nothing_is_left then
    redis.call('UNLINK', KEYS[3], KEYS[4], KEYS[7], KEYS[8], KEYS[9])
    sealed_views = 0
  end
  open = math.max(fence, last) + 1
elseif meta.epoch then
  -- An overtaken history, or one that does not add up: nothing in it may be flushed. Its batches are kept for a person
  -- to look at; nothing else is read, for it may be damaged. The producers send again what MySQL does not have.
  if redis.call('EXISTS', KEYS[8]) == 1 then
    local _, log = keys_of(meta.gen)
    redis.call('RENAME', KEYS[8], log)
  end
  for generation = meta.first, meta.gen do
    local totals, log, put_aside = keys_of(generation)
    if redis.call('EXISTS', log) == 1 then
      redis.call('RENAME', log, put_aside)
      aside = aside + 1
    end
    redis.call('UNLINK', totals)
  end
  redis.call('DEL', KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[9])
end

for i = 10, #ARGV, 2 do -- I2: no producer may send again what MySQL has
  local known = redis.call('HGET', KEYS[2], ARGV[i]) or '-1'
  if tonumber(string.match(known, '^-?%d+')) < tonumber(string.match(ARGV[i + 1], '^%d+')) then
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
  end
end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'incarnation', ARGV[2], 'gen', open, 'first', fence + 1,
  'views', 0, 'batches', 0, 'opened', 0, 'sealed_views', sealed_views, 'shards', ARGV[8],
  'version', math.max(meta.version or 0, tonumber(ARGV[9])), 'rotation', meta.rotation or 0,
  -- Whatever a Redis comes back with, ingests may know of more; before the first epoch there was nothing.
  'behind', tonumber(ARGV[1]) > 1 and now_ms() + BEHIND_MS or 0)
if not (meta.epoch and keep) then redis.call('HSET', KEYS[1], 'ids_from', now_ms(), 'ids_turn', now_ms()) end
return {'OK', aside}
