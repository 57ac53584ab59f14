-- The time, and the arguments one after the other: the beginning of the program `charge`.
local call = redis.call
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local at = 0

local function number()
  at = at + 1
  return tonumber(ARGV[at])
end

-- What a limit is asked: to look, to charge, or to take a charge back.
local CHARGE, REFUND = 1, 2
-- A second. Two checks that read the clock in one order and reach a key in the other differ by less.
local SLACK = 1000000
-- The largest whole number of Lua, and the largest count.
local MAX_WHOLE, MAX_COUNT = 9007199254740991, 1099511627776

