-- Takes units for one of the holders who share them: all of them or none.
--
-- The lock of a unit that is shared is `*`, the time until which a writer waits (ms, 13 digits), and for each holder `,`, its token
-- and the end of its lease (ms, 13 digits). An exclusive lock begins with a token, which has no `*` and no `,`. The longest of the
-- times is the key's life.
--
-- KEYS[1], KEYS[3], ..: the lock of each unit
-- KEYS[2], KEYS[4], ..: the last fencing token of each unit
-- ARGV[1]: the holder's token, 22 characters
-- ARGV[2]: the lease in ms
-- ARGV[3]: the most holders of a unit
-- Reply: {1, the highest of the last fencing tokens, 0 if there is none}, or {0, ms to wait, index of the first such unit from 0}
local time = redis.call('TIME')
local now = string.sub('000000000' .. time[1], -10) .. string.sub('00000' .. time[2], -6, -4)
local ends = string.format('%013.0f', now + ARGV[2])
local full = 14 + 36 * ARGV[3]

local locks, held, wait, fence = {}, nil, 0, 0
for i = 1, #KEYS, 2 do
  local lock = redis.call('GET', KEYS[i])
  local left
  if not lock then
    lock = '*0000000000000'
  elseif string.byte(lock) ~= 42 or #lock % 36 ~= 14 then
    -- Held by one alone.
    left = redis.call('PTTL', KEYS[i])
  elseif not string.find(lock, ',' .. ARGV[1], 15, true) then
    if string.sub(lock, 2, 14) > now then
      -- A writer waits, and goes first.
      left = string.sub(lock, 2, 14) - now
    elseif #lock >= full then
      -- Holders that have died leave their places.
      local alive = {string.sub(lock, 1, 14)}
      for at = 15, #lock, 36 do
        if string.sub(lock, at + 23, at + 35) > now then
          alive[#alive + 1] = string.sub(lock, at, at + 35)
        end
      end
      lock = table.concat(alive)
      left = #lock >= full and redis.call('PTTL', KEYS[i])
    end
  end
  if left then
    held = held or (i - 1) / 2
    wait = math.max(wait, left)
  end
  locks[i] = lock
end
if held then
  return {0, wait, held}
end

for i = 1, #KEYS, 2 do
  local lock = locks[i]
  local at = string.find(lock, ',' .. ARGV[1], 15, true) or #lock + 1
  lock = string.sub(lock, 1, at - 1) .. ',' .. ARGV[1] .. ends .. string.sub(lock, at + 36)
  redis.call('SET', KEYS[i], lock, 'PX', math.max(redis.call('PTTL', KEYS[i]), ARGV[2]))
  local last = redis.call('GET', KEYS[i + 1])
  fence = math.max(fence, last and string.match(last, '^%d+') or 0)
end
return {1, fence}
