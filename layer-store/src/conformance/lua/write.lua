-- Writes any bytes.
-- KEYS[1]: the key to write
-- ARGV[1]: the time to live in milliseconds
-- ARGV[2]: the bytes
-- Reply: {the bytes, nil}
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[1])
return {ARGV[2], false}
