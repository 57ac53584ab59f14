-- Stands in for PEXPIRE with GT, which Redis has since 7.0.
--
-- KEYS[1]: the key to touch
-- ARGV[1]: the new time to live in milliseconds
-- Reply: 1 if it was changed, 0 if there is no value or it lives longer already
local left = redis.call('PTTL', KEYS[1])
if left >= 0 and left < tonumber(ARGV[1]) then
  return redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return 0
