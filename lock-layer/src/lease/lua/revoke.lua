-- Takes units from their holders.
--
-- KEYS[1], KEYS[3], ..: the lock of each unit
-- KEYS[2], KEYS[4], ..: the last fencing token of each unit
-- ARGV[1]: the life of a fencing token in ms
-- Reply: {number of units that were held}
local count = 0
for i = 1, #KEYS, 2 do
  count = count + redis.call('DEL', KEYS[i])
  -- Spent, or the holder's next renewal would put its lock back.
  local fence = redis.call('GET', KEYS[i + 1])
  if fence then
    redis.call('SET', KEYS[i + 1], string.format('%.0f', tonumber(fence) + 1), 'PX', ARGV[1])
  end
end
return {count}
