-- Renews the lease on all units of one holder, or on none.
--
-- A lock that is gone (evicted, flushed, expired) is put back if its fencing token shows that nobody was let in since.
--
-- KEYS[1], KEYS[3], ..: the lock of each unit
-- KEYS[2], KEYS[4], ..: the last fencing token of each unit
-- ARGV[1]: the holder's token, 22 characters
-- ARGV[2]: the holder's fencing token
-- ARGV[3]: the lease in ms
-- ARGV[4]: the life of a fencing token in ms
-- Reply: {1} renewed, {2} renewed and a lock put back, {0} lost
local lock = ARGV[1] .. ARGV[2]
local reply = 1
for i = 1, #KEYS, 2 do
  local stands = redis.call('GET', KEYS[i])
  if not stands then
    if redis.call('GET', KEYS[i + 1]) ~= ARGV[2] then
      return {0}
    end
    reply = 2
  elseif stands ~= lock then
    return {0}
  end
end
for i = 1, #KEYS, 2 do
  redis.call('SET', KEYS[i], lock, 'PX', ARGV[3])
  redis.call('SET', KEYS[i + 1], ARGV[2], 'PX', ARGV[4])
end
return {reply}
