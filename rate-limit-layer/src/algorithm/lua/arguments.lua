-- The time, and the arguments one after the other: the beginning of the programs over several limits.
local call, argv = redis.call, ARGV
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local at = 0

local function number()
  at = at + 1
  return argv[at] + 0
end

-- Writes `value` under `key`, to live for so many microseconds. Lua writes few digits faster than Redis does.
local function keep(key, value, micros)
  call('SET', key, value, 'PX', (micros + 999 - (micros + 999) % 1000) / 1000 .. '')
end

-- What a limit is asked: to look, to charge, or to take a charge back.
local CHARGE, REFUND = 1, 2
-- A second. Two checks that read the clock in one order and reach a key in the other differ by less.
local SLACK = 1000000
-- The largest whole number of Lua, and the largest count.
local MAX_WHOLE, MAX_COUNT = 9007199254740991, 1099511627776

-- The algorithms of a program, by their numbers. Each takes the value of a key and the arguments of a limit. It returns nil if the value
-- is not of its form, else
--   true if it allows what it is asked
--   a function that takes the key, and true if all limits allow what they are asked. It writes what is kept, and returns what the
--     algorithm replies: up to three numbers
local algorithms = {}

