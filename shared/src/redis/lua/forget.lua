-- Forgets the view ids of the period before the last one: the set in use becomes the set before. `early` if that is done
-- to make room, before their time. `ids_from` says since when ids are remembered without a gap, `ids_turn` since when
-- the set in use is.
local function forget(ids, before, early)
  local gone = redis.call('SCARD', before)
  redis.call('UNLINK', before)
  if redis.call('EXISTS', ids) == 1 then redis.call('RENAME', ids, before) end
  if early and gone > 0 then redis.call('HINCRBY', KEYS[1], 'ids_early', gone) end
  local turn = redis.call('HGET', KEYS[1], 'ids_turn') or '0'
  redis.call('HSET', KEYS[1], 'rotation', string.format('%d', meta.rotation + 1), 'ids_from', turn, 'ids_turn', now_ms())
end

