-- What MySQL has was changed by something else than a flush: the values cached before are not valid any more.
-- KEYS: meta   ARGV: epoch, the version in MySQL
if tonumber(ARGV[2]) > meta.version then redis.call('HSET', KEYS[1], 'version', ARGV[2]) end
return {'OK'}
