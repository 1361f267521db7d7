-- KEYS: meta, dirty, headers, log   ARGV: none. Answers for a data set that nobody has opened yet too.
if not meta.epoch then return {'NONE', incarnation()} end
return {
  meta.incarnation == incarnation() and 'CURRENT' or 'STALE', incarnation(), tonumber(meta.epoch),
  meta.gen, meta.first, meta.views, meta.sealed_views,
  redis.call('LLEN', KEYS[2]), math.max(0, now_ms() - stored_until(KEYS[3])),
  redis.call('LLEN', KEYS[4]), meta.version, meta.rotation,
}
