-- Stands in for SET with KEEPTTL, which Redis has since 6.0.
--
-- KEYS[1]: the key to write
-- ARGV[1]: the value to write
-- Reply: OK
local left = redis.call('PTTL', KEYS[1])
if left < 0 then
  return redis.call('SET', KEYS[1], ARGV[1])
end
return redis.call('SET', KEYS[1], ARGV[1], 'PX', math.max(left, 1))
