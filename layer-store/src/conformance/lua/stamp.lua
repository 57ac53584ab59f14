-- Writes down the time.
-- KEYS[1]: the key to write
-- ARGV[1]: the time to live in milliseconds
-- Reply: {now, the time that was there before or 0}, in Unix microseconds
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local before = tonumber(redis.call('GET', KEYS[1]) or '0')
redis.call('SET', KEYS[1], string.format('%.0f', now), 'PX', ARGV[1])
return {now, before}
