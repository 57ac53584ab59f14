-- Stands in for SET with NX and GET, which Redis has since 7.0.
--
-- KEYS[1]: the key to write
-- ARGV[1]: the time to live in milliseconds, or "never"
-- ARGV[2]: the value to write
-- Reply: nil if it was written, else the existing value
local existing = redis.call('GET', KEYS[1])
if existing then
  return existing
end
if ARGV[1] == 'never' then
  redis.call('SET', KEYS[1], ARGV[2])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[1])
end
return false
