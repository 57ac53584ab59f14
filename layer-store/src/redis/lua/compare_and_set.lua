-- KEYS[1]  where
-- ARGV[1]  what must stand there
-- ARGV[2]  milliseconds to live, "keep" or "never"
-- ARGV[3]  what is written
-- Replies {1}, or {0, what stands there or nil}.
local stands = redis.call('GET', KEYS[1])
if stands ~= ARGV[1] then
  return {0, stands}
end
if ARGV[2] == 'keep' then
  redis.call('SET', KEYS[1], ARGV[3], 'KEEPTTL')
elseif ARGV[2] == 'never' then
  redis.call('SET', KEYS[1], ARGV[3])
else
  redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[2])
end
return {1}
