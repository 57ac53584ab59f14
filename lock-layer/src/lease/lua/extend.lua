-- Renews the lease on all units of one holder, or on none.
--
-- A lock that is gone (evicted, flushed away, expired) is put back if its fence shows that nobody was let in since.
--
-- KEYS  two a unit: its lock and its fence
-- ARGV  the token, 22 characters; the fence; the lease in ms; the life of a fence in ms
-- reply {1}: renewed; {2}: renewed, and something put back; {0}: lost
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
