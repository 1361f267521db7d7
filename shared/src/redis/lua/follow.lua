-- The entries behind a cursor, oldest first, up to a number of bytes; and the cached bases of some articles, all at one
-- moment. A base whose time to live is over is kept for a while, should MySQL be away: it is exact as long as it is there,
-- because flushes move it along. One of zero is not: anybody can ask for what was never read.
-- KEYS: meta, log, then live per article
-- ARGV: epoch, cursor, bytes, version ('' where no bases are asked for), for how long (ms) a base is kept beyond its time to
--       live, then TTL (ms) per article
if ARGV[4] ~= '' and meta.version ~= tonumber(ARGV[4]) then return {'EPOCH'} end

local entries, bytes = {}, 0
local at = math.max(tonumber(ARGV[2]) + 1, meta.first) - meta.first -- the index in the list
local count, most, step = meta.tail - meta.first + 1, tonumber(ARGV[3]), 2
-- Before any of it is flushed: where one is gone, those behind it stand at positions that are not theirs.
if redis.call('LLEN', KEYS[2]) ~= count then return {'DAMAGED'} end
while at < count and bytes < most do -- few at first: each may be large
  local some = redis.call('LRANGE', KEYS[2], at, at + step - 1)
  for i = 1, #some do
    entries[#entries + 1] = some[i]
    bytes = bytes + #some[i]
    if bytes >= most then break end
  end
  at = at + step
  if bytes < most / 4 then step = step * 2 end
end

local bases = {}
if #KEYS > 2 then
  local kept, until_ms = tonumber(ARGV[5]), 0
  local live = redis.call('MGET', unpack(KEYS, 3))
  for i = 1, #live do
    local key, ttl = KEYS[2 + i], tonumber(ARGV[5 + i])
    local views, readers, position = string.match(live[i] or '', '^(%d+):(%d+):(%d+)$')
    local is_fresh = false
    -- One that stands below what was trimmed is right as long as flushes have moved along all bases that they touched.
    if views and tonumber(position) >= meta.valid_from then
      local beyond = views ~= '0' and kept or 0
      local left = redis.call('PTTL', key) - beyond
      is_fresh = left > 0
      -- One that is being viewed lives longer. One that was touched a moment ago need not be written to again.
      if not is_fresh then
        redis.call('PEXPIRE', key, beyond, 'GT')
        until_ms = math.max(until_ms, beyond)
      elseif left < 0.9 * ttl then
        redis.call('PEXPIRE', key, string.format('%d', ttl + beyond), 'GT')
        until_ms = math.max(until_ms, ttl + beyond)
      end
    else
      if live[i] then redis.call('DEL', key) end
      views = nil
    end
    bases[#bases + 1] = tonumber(views) or false
    bases[#bases + 1] = tonumber(readers) or false
    bases[#bases + 1] = tonumber(position) or false
    bases[#bases + 1] = is_fresh and 1 or 0
  end
  if until_ms > 0 then cached_until(now_ms() + until_ms) end
end
return {
  'OK', meta.tail, meta.first, stored_until(), now_ms(), meta.appended - meta.acked, meta.version, is_behind() and 1 or 0,
  memory_percent(), meta.rotation, entries, bases,
}
