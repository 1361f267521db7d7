-- How much of its memory Redis uses, in percent; 0 if it may use all that there is.
local function memory_percent()
  local info = redis.call('INFO', 'memory')
  local most = tonumber(string.match(info, 'maxmemory:(%d+)')) or 0
  if most == 0 then return 0 end
  return math.floor(tonumber(string.match(info, 'used_memory:(%d+)')) * 100 / most)
end

