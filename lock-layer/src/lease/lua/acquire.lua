-- Takes units for one holder: all of them or none.
--
-- KEYS[1], KEYS[3], ..: the lock of each unit: the holder's token, then the fencing token in decimal
-- KEYS[2], KEYS[4], ..: the last fencing token of each unit
-- ARGV[1]: the holder's token, 22 characters
-- ARGV[2]: the lease in ms
-- ARGV[3]: the life of a fencing token in ms
-- ARGV[4], if this holder waits: the ms for which nobody new may share the units before it. share.lua has the form of such a lock.
-- Reply: the fencing token, or {0, ms until the last of the other holders' leases ends, index of the first such unit from 0}

-- The time in microseconds, so that a fence rises over whatever the server forgot. Joined as text: arithmetic would cost more.
local time = redis.call('TIME')
local fence = time[1] .. string.sub('00000' .. time[2], -6)

-- Never back, whatever the server's clock does. Texts of one length are in the order of their numbers.
local function rise(last)
  if last and (#last > #fence or (#last == #fence and last >= fence)) then
    fence = string.format('%.0f', last + 1)
    return true
  end
end

-- One unit that is free, which is the usual case.
if #KEYS == 2 and redis.call('SET', KEYS[1], ARGV[1] .. fence, 'PX', ARGV[2], 'NX') then
  local last = redis.pcall('SET', KEYS[2], fence, 'PX', ARGV[3], 'GET')
  if type(last) == 'table' and last.err then
    -- Before Redis 6.2.
    last = redis.call('GET', KEYS[2])
    redis.call('SET', KEYS[2], fence, 'PX', ARGV[3])
  end
  if rise(last) then
    redis.call('SET', KEYS[1], ARGV[1] .. fence, 'PX', ARGV[2])
    redis.call('SET', KEYS[2], fence, 'PX', ARGV[3])
  end
  return tonumber(fence)
end

local now = string.sub('000000000000' .. string.sub(fence, 1, -4), -13)

-- Returns true if the lease of a holder goes on who shares the unit. If this one waits, it says so, before half of the time is over
-- for which it has been said: each such write wakes all who wait, this one too.
local function is_shared(key, lock)
  local live = false
  for at = 38, #lock, 36 do
    live = live or string.sub(lock, at, at + 12) > now
  end
  if live and ARGV[4] and 2 * ((tonumber(string.sub(lock, 2, 14)) or 0) - now) <= tonumber(ARGV[4]) then
    lock = '*' .. string.format('%013.0f', now + ARGV[4]) .. string.sub(lock, 15)
    redis.call('SET', key, lock, 'PX', math.max(redis.call('PTTL', key), ARGV[4]))
  end
  return live
end

local held, own, wait = nil, 0, 0
for i = 1, #KEYS, 2 do
  local lock = redis.call('GET', KEYS[i])
  if lock and string.sub(lock, 1, 22) == ARGV[1] then
    own = own + 1
  elseif lock and (string.byte(lock) ~= 42 or #lock % 36 ~= 14 or is_shared(KEYS[i], lock)) then
    held = held or (i - 1) / 2
    wait = math.max(wait, redis.call('PTTL', KEYS[i]))
  end
end
if held then
  return {0, wait, held}
end

if 2 * own == #KEYS then
  -- The same claim again, whose reply was lost: the same answer.
  fence = string.sub(redis.call('GET', KEYS[1]), 23)
else
  for i = 2, #KEYS, 2 do
    rise(redis.call('GET', KEYS[i]))
  end
end
for i = 1, #KEYS, 2 do
  redis.call('SET', KEYS[i], ARGV[1] .. fence, 'PX', ARGV[2])
  redis.call('SET', KEYS[i + 1], fence, 'PX', ARGV[3])
end
return tonumber(fence)
