-- Takes units for one holder: all of them or none.
--
-- KEYS[1], KEYS[3], ..: the lock of each unit: the holder's token, then the fencing token in decimal
-- KEYS[2], KEYS[4], ..: the last fencing token of each unit
-- ARGV[1]: the holder's token, 22 characters
-- ARGV[2]: the lease in ms
-- ARGV[3]: the life of a fencing token in ms
-- Reply: {1, fencing token}, or {0, ms until the last of the other holders' leases ends, index of the first such unit from 0}
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
