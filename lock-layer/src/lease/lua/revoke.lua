-- Takes units from whoever has them.
--
-- KEYS  two a unit: its lock and its fence
-- ARGV  the life of a fence in ms
-- reply {how many units were held}
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
