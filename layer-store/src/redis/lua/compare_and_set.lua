-- KEYS[1]: the key to write
-- ARGV[1]: the value that must be there
-- ARGV[2]: the time to live in milliseconds, "never" or "keep", or "left" where Redis has no KEEPTTL
-- ARGV[3]: the value to write
-- Reply: 1 if it was written, else {0, the existing value or nil}
local existing = redis.call('GET', KEYS[1])
if existing ~= ARGV[1] then
  return {0, existing}
end
local life = ARGV[2]
if life == 'left' then
  local left = redis.call('PTTL', KEYS[1])
  life = left < 0 and 'never' or math.max(left, 1)
end
if life == 'keep' then
  redis.call('SET', KEYS[1], ARGV[3], 'KEEPTTL')
elseif life == 'never' then
  redis.call('SET', KEYS[1], ARGV[3])
else
  redis.call('SET', KEYS[1], ARGV[3], 'PX', life)
end
return 1
