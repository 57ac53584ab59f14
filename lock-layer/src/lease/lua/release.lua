-- Gives back the units that this holder still has.
--
-- Its fencing token is raised, so that a renewal which arrives late, over a connection given up before, puts nothing back. While a
-- lock is the holder's, so is the last fencing token, or that is gone.
--
-- KEYS[1], KEYS[3], ..: the lock of each unit
-- KEYS[2], KEYS[4], ..: the last fencing token of each unit
-- ARGV[1]: the holder's token, 22 characters
-- ARGV[2]: the holder's fencing token, 0 if it never arrived
-- Reply: number of units that the holder still had
local count = 0
for i = 1, #KEYS, 2 do
  local lock = redis.call('GET', KEYS[i])
  local own = lock and string.sub(lock, 1, 22) == ARGV[1]
  if own then
    redis.call('DEL', KEYS[i])
    count = count + 1
  end
  if own or redis.call('GET', KEYS[i + 1]) == ARGV[2] then
    -- It keeps its life. One that is made here has none, and is nobody's.
    if redis.call('INCRBY', KEYS[i + 1], '1') == 1 then
      redis.call('DEL', KEYS[i + 1])
    end
  end
end
return count
