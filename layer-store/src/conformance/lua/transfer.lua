-- Moves an amount from one account to another, if the first has it. An empty account is deleted.
-- KEYS[1]: the account to take from
-- KEYS[2]: the account to give to
-- ARGV[1]: the amount
-- ARGV[2]: the time to live in milliseconds
-- Reply: {1 if it was moved, the rest of the first, the amount of the second}
local amount = tonumber(ARGV[1])
local held = redis.call('MGET', KEYS[1], KEYS[2])
local from = tonumber(held[1] or '0')
local to = tonumber(held[2] or '0')
if from < amount then
  return {0, from, to}
end
from = from - amount
to = to + amount
if from == 0 then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], string.format('%.0f', from), 'PX', ARGV[2])
end
redis.call('SET', KEYS[2], string.format('%.0f', to), 'PX', ARGV[2])
return {1, from, to}
