-- Charges one GCRA limit whose prices are whole microseconds.
--
-- KEYS[1]: the state: `time` or `time:fraction`, when nothing is owed any more, in Unix microseconds
-- ARGV[1]: full: the largest debt
-- ARGV[2]: the charge, above 0
-- Reply: the debt, if it was charged; else -1 - debt; -1 if the value is not of this form
local call = redis.call
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local value = call('GET', KEYS[1])
local full, debt, cut = ARGV[1] + 0, 0, false

if value then
  -- 16 digits, from 2001 on. They are read by the subtraction, which raises an error if they are none.
  local whole, rest = value, 0
  if #value ~= 16 and not string.find(value, '^[1-9]%d*$') then
    whole, rest = string.match(value, '^([1-9]%d*):([1-9]%d*)$')
    if not whole or tonumber(rest) > 4294967295 then
      return -1
    end
    -- A quota of more parts wrote it. It is less than a microsecond.
    rest = 1
  end
  debt = whole - now
  if debt < 0 then
    debt = 0
  else
    debt = debt + rest
    -- More than a second: a clock ran backwards, or a quota was lowered. Less comes from two checks out of order.
    if debt > full + 1000000 then
      debt, cut = full, true
    end
  end
end

local owed, refused = debt + ARGV[2], false
if owed > full then
  if not cut then
    return -1 - debt
  end
  owed, refused = debt, true
end
-- The time goes to Redis as a number, which writes all of its digits; Lua's own conversion keeps 14. The milliseconds have fewer,
-- and Lua is faster.
call('SET', KEYS[1], now + owed, 'PX', (owed + 999 - (owed + 999) % 1000) / 1000 .. '')
return refused and -1 - debt or owed
