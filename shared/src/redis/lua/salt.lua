-- Answers the salt of a day, which is the first that was offered. Without one on which all agree a reader without a name
-- would be another one at each ingest, so a full memory is no reason to refuse it.
-- KEYS: salt   ARGV: the one that is offered, how long it lives (ms)
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2], 'NX')
return redis.call('GET', KEYS[1])
