-- Gives back the units that this holder still shares. share.lua has the form of the locks.
--
-- The last holder leaves the word of a writer who waits, so that nobody comes before it.
--
-- KEYS[1], KEYS[2], ..: the lock of each unit
-- ARGV[1]: the holder's token, 22 characters
-- Reply: number of units that the holder still had
local time = redis.call('TIME')
local now = string.sub('000000000' .. time[1], -10) .. string.sub('00000' .. time[2], -6, -4)

local count = 0
for _, key in ipairs(KEYS) do
  local lock = redis.call('GET', key)
  local shared = lock and string.byte(lock) == 42 and #lock % 36 == 14
  local at = shared and string.find(lock, ',' .. ARGV[1], 15, true)
  if at then
    count = count + 1
    lock = string.sub(lock, 1, at - 1) .. string.sub(lock, at + 36)
    if #lock > 14 then
      redis.call('SET', key, lock, 'PX', math.max(redis.call('PTTL', key), 1))
    elseif string.sub(lock, 2, 14) > now then
      redis.call('SET', key, lock, 'PX', string.sub(lock, 2, 14) - now)
    else
      redis.call('DEL', key)
    end
  end
end
return count
