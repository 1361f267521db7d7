-- Stands before every script. KEYS[1] is the shard's meta, ARGV[1] the epoch that the caller knows.
-- A data set that was not opened by a recovery in this very life of the server (a restart with a lost
-- tail, a promoted replica, FLUSHALL) is refused here, before anything is read or written (I6).
-- A replica says the master's replication id of itself too, however old what it has is: it has no life of its own here.
local function incarnation()
  return string.match(redis.call('INFO', 'replication'), 'role:master.-master_replid:(%x+)') or 'replica'
end

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local m = redis.call('HMGET', KEYS[1], 'epoch', 'incarnation', 'first', 'tail', 'appended', 'acked', 'oldest', 'shards',
  'version', 'rotation', 'behind', 'valid_from', 'fill_from')
local meta = {
  epoch = m[1], incarnation = m[2], first = tonumber(m[3]), tail = tonumber(m[4]),
  appended = tonumber(m[5]) or 0, acked = tonumber(m[6]) or 0, oldest = tonumber(m[7]) or 0, shards = m[8],
  version = tonumber(m[9]) or 0, rotation = tonumber(m[10]) or 0, behind = tonumber(m[11]) or 0,
  valid_from = tonumber(m[12]) or 0, fill_from = tonumber(m[13]) or 0,
}

-- For how long an ingest's word holds that it has acknowledged views which are not here. It says so twice a second, but on a
-- machine that has far too much to do it may be late by seconds.
local BEHIND_MS = 5000

-- Whether views that were acknowledged may be neither here nor in MySQL: they wait in a journal, or this data set was
-- opened just now and ingests have not sent again what it lacks. Then its numbers are a part.
local function is_behind()
  local left = meta.behind - now_ms()
  return left > 0 and left <= BEHIND_MS -- more is from before the clock was set back
end

-- When the oldest entry came, or now if there is none: everything before it is in MySQL.
local function stored_until()
  return meta.first <= meta.tail and meta.oldest or now_ms()
end

-- What an entry says of itself before the packed batch: when it came, and the views appended up to and including it.
local function envelope(entry)
  local came, appended = string.match(entry or '', '^(%d+):(%d+):')
  return tonumber(came), tonumber(appended)
end
