-- Writes any bytes.
-- KEYS[1]: where
-- ARGV: the time to live in ms; the bytes
-- Reply: {the bytes, nil}
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[1])
return {ARGV[2], false}
