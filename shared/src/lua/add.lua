-- Adds `sign` times the counts to the fields of a hash, and leaves out what is not above 0 then. Fields that were not
-- there before are appended to a list, if one is named. In few commands for hundreds of fields: one more command costs far more than one more word. Not
-- in one for all of them, because Lua's stack has a bound.
local function add(hash, fields, counts, sign, list)
  for from = 1, #fields, 500 do
    local to = math.min(from + 499, #fields)
    local before = redis.call('HMGET', hash, unpack(fields, from, to))
    local set, gone, new = {}, {}, {}
    for i = from, to do
      local had = before[i - from + 1]
      if not had then new[#new + 1] = fields[i] end
      local sum = (had or 0) + sign * counts[i]
      if sum > 0 then
        set[#set + 1] = fields[i]
        set[#set + 1] = string.format('%d', sum)
      else
        gone[#gone + 1] = fields[i]
      end
    end
    if #set > 0 then redis.call('HSET', hash, unpack(set)) end
    if #gone > 0 then redis.call('HDEL', hash, unpack(gone)) end
    if list and #new > 0 then redis.call('RPUSH', list, unpack(new)) end
  end
end

