-- KEYS[1]: the key to write
-- ARGV[1]: the value that must be there
-- ARGV[2]: the time to live in milliseconds, "keep" or "never"
-- ARGV[3]: the value to write
-- Reply: {1} if it was written, else {0, the existing value or nil}
local existing = redis.call('GET', KEYS[1])
if existing ~= ARGV[1] then
  return {0, existing}
end
if ARGV[2] == 'keep' then
  redis.call('SET', KEYS[1], ARGV[3], 'KEEPTTL')
elseif ARGV[2] == 'never' then
  redis.call('SET', KEYS[1], ARGV[3])
else
  redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[2])
end
return {1}
