-- An ingest has acknowledged views that are not in this data set: see `is_behind`.
-- KEYS: meta   ARGV: none
if meta.epoch then redis.call('HSET', KEYS[1], 'behind', now_ms() + BEHIND_MS) end
return {'OK'}
