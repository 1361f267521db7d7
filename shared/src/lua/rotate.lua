-- Forgets the view ids of the period before the last one, unless somebody else has done so.
-- KEYS: meta, ids, ids before   ARGV: epoch, the rotation that the caller knows
if meta.rotation == tonumber(ARGV[2]) then
  if redis.call('EXISTS', KEYS[2]) == 1 then
    redis.call('RENAME', KEYS[2], KEYS[3])
  else
    redis.call('DEL', KEYS[3])
  end
  redis.call('HINCRBY', KEYS[1], 'rotation', 1)
end
return {'OK'}
