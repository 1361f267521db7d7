-- Whether this shard could be written here; in which life of the server, and under which epoch it was opened last. Redis
-- itself refuses a script that may write where it takes no writes: on a read-only replica, with too few replicas, or with a
-- disk that is full. A replica may have been set up to take them.
-- KEYS: meta   ARGV: none
if incarnation() == 'replica' then return redis.error_reply('READONLY this Redis is a replica') end
return {'OK', incarnation(), tonumber(meta.epoch) or 0}
