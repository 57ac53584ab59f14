-- Gives back the units that this holder still has.
--
-- Its fence is spent, so that a renewal which arrives late, over a connection given up before, puts nothing back.
--
-- KEYS  two a unit: its lock and its fence
-- ARGV  the token, 22 characters; the fence, 0 if the holder never learnt it; the life of a fence in ms
-- reply {how many units it still had}
local count = 0
for i = 1, #KEYS, 2 do
  local lock = redis.call('GET', KEYS[i])
  if lock and string.sub(lock, 1, 22) == ARGV[1] then
    redis.call('DEL', KEYS[i])
    count = count + 1
  end
  if redis.call('GET', KEYS[i + 1]) == ARGV[2] then
    redis.call('SET', KEYS[i + 1], string.format('%.0f', tonumber(ARGV[2]) + 1), 'PX', ARGV[3])
  end
end
return {count}
