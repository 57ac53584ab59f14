-- Takes units for one holder: all of them or none.
--
-- KEYS  two a unit: its lock (the holder's token, then the fence in decimal) and its fence (the last one given)
-- ARGV  the token, 22 characters; the lease in ms; the life of a fence in ms
-- reply {1, the fence}; {0, ms until the last of the units held by others may be free, the first such unit from 0}
local held, own, wait = nil, 0, 0
for i = 1, #KEYS, 2 do
  local lock = redis.call('GET', KEYS[i])
  if lock and string.sub(lock, 1, 22) == ARGV[1] then
    own = own + 1
  elseif lock then
    held = held or (i - 1) / 2
    wait = math.max(wait, redis.call('PTTL', KEYS[i]))
  end
end
if held then
  return {0, wait, held}
end

local fence
if 2 * own == #KEYS then
  -- The same claim again, whose reply was lost: the same answer.
  fence = tonumber(string.sub(redis.call('GET', KEYS[1]), 23))
else
  -- The time, so that a fence rises over whatever the server forgot; but never back, whatever its clock does.
  local time = redis.call('TIME')
  fence = time[1] * 1000000 + time[2]
  for i = 2, #KEYS, 2 do
    fence = math.max(fence, tonumber(redis.call('GET', KEYS[i]) or '0') + 1)
  end
end
local text = string.format('%.0f', fence)
for i = 1, #KEYS, 2 do
  redis.call('SET', KEYS[i], ARGV[1] .. text, 'PX', ARGV[2])
  redis.call('SET', KEYS[i + 1], text, 'PX', ARGV[3])
end
return {1, fence}
