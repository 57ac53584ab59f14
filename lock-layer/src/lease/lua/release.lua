-- Gives back the units that this holder still has.
--
-- Its fencing token is raised, so that a renewal which arrives late, over a connection given up before, puts nothing back.
--
-- KEYS[1], KEYS[3], ..: the lock of each unit
-- KEYS[2], KEYS[4], ..: the last fencing token of each unit
-- ARGV[1]: the holder's token, 22 characters
-- ARGV[2]: the holder's fencing token, 0 if it never arrived
-- ARGV[3]: the life of a fencing token in ms
-- Reply: {number of units that the holder still had}
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
