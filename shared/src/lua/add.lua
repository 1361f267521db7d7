-- Adds `sign` times the counts to the fields of a hash, and leaves out what is not above 0 then. Answers false, and has
-- changed nothing, if a field holds no number. In few commands for hundreds of fields: one more command costs far more
-- than one more word. Not in one for all of them, because Lua's stack has a bound.
local function add(hash, fields, counts, sign)
  local commands = {}
  for from = 1, #fields, 500 do
    local to = math.min(from + 499, #fields)
    local before = redis.call('HMGET', hash, unpack(fields, from, to))
    local set, gone = {'HSET', hash}, {'HDEL', hash}
    for i = from, to do
      local had, sum = before[i - from + 1], counts[i]
      if had or sign < 0 then
        had = tonumber(had or 0)
        if not had then return false end
        sum = string.format('%d', had + sign * sum)
      end
      if sum ~= '0' and string.byte(sum) ~= 45 then -- 45: a minus
        set[#set + 1] = fields[i]
        set[#set + 1] = sum
      else
        gone[#gone + 1] = fields[i]
      end
    end
    if #set > 2 then commands[#commands + 1] = set end
    if #gone > 2 then commands[#commands + 1] = gone end
  end
  for _, command in ipairs(commands) do redis.call(unpack(command)) end
  return true
end

