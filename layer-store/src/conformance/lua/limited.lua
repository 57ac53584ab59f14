-- Counts up to a limit.
-- KEYS[1]: the counter
-- ARGV[1]: the limit
-- ARGV[2]: the time to live in milliseconds
-- Reply: {1 if it was counted, the count}
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then
  return {0, count}
end
redis.call('SET', KEYS[1], string.format('%.0f', count + 1), 'PX', ARGV[2])
return {1, count + 1}
