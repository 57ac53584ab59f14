-- Adds to an integer, with an end for one that it creates, or a largest sum.
--
-- KEYS[1]: the integer
-- ARGV[1]: the number to add
-- ARGV[2]: the time to live of an integer that is created, in milliseconds, or "never"
-- ARGV[3]: the largest sum, if there is one
-- Reply: the sum, as a text where a double would not hold it; or {the integer that is there} if the sum would be too large
local call = redis.call
local old = call('GET', KEYS[1])

-- An integer as two that a double holds exactly. Nil for a text that Redis takes for none.
local function parts(text)
  if not string.find(text, '^-?[1-9]%d*$') and text ~= '0' then
    return nil
  end
  local sign, high, low = string.match(text, '^(-?)(%d-)(%d?%d?%d?%d?%d?%d?%d?%d?%d)$')
  high = tonumber(high) or 0
  low = tonumber(low)
  if sign == '-' then
    return -high, -low
  end
  return high, low
end

local high, low = parts(old or '0')
local more, rest = parts(ARGV[1])

local function exceeds(max)
  local max_high, max_low = parts(max)
  -- Rounded, but never to the other sign.
  return (high + more - max_high) * 1000000000 + (low + rest - max_low) > 0
end

-- Beyond 64 bits, and for no integer, INCRBY has the error.
if ARGV[3] and high and exceeds(ARGV[3]) and not exceeds('9223372036854775807') then
  return {old or '0'}
end
if not old and ARGV[2] ~= 'never' then
  call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return ARGV[1]
end
local sum = call('INCRBY', KEYS[1], ARGV[1])
if sum >= 9007199254740992 or sum <= -9007199254740992 then
  return call('GET', KEYS[1])
end
return sum
