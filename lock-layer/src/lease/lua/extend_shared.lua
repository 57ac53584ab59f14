-- Renews the lease of one of the holders who share units, on all of them or on none. share.lua has the form of the locks.
--
-- A lock that is gone is not put back: nothing shows that no writer was let in since.
--
-- KEYS[1], KEYS[2], ..: the lock of each unit
-- ARGV[1]: the holder's token, 22 characters
-- ARGV[2]: the lease in ms
-- Reply: {1} renewed, {0} lost
local time = redis.call('TIME')
local now = string.sub('000000000' .. time[1], -10) .. string.sub('00000' .. time[2], -6, -4)
local ends = string.format('%013.0f', now + ARGV[2])

local locks, places = {}, {}
for i, key in ipairs(KEYS) do
  local lock = redis.call('GET', key)
  local shared = lock and string.byte(lock) == 42 and #lock % 36 == 14
  local at = shared and string.find(lock, ',' .. ARGV[1], 15, true)
  if not at then
    return {0}
  end
  locks[i], places[i] = lock, at
end
for i, key in ipairs(KEYS) do
  local lock, at = locks[i], places[i]
  lock = string.sub(lock, 1, at + 22) .. ends .. string.sub(lock, at + 36)
  redis.call('SET', key, lock, 'PX', math.max(redis.call('PTTL', key), ARGV[2]))
end
return {1}
