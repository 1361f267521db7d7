-- Forgets the view ids of the period before the last one, unless somebody else has done so.
-- KEYS: meta, ids, ids before   ARGV: epoch, the rotation that the caller knows, 1 if there are too many of them
if meta.rotation == tonumber(ARGV[2]) then forget(KEYS[2], KEYS[3], ARGV[3] == '1') end
return {'OK'}
