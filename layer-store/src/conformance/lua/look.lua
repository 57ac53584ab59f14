-- Looks at keys and changes nothing.
-- KEYS[..]: the keys to look at
-- Reply: for each key its value or nil, and the rest of its time to live in milliseconds (-1: for ever, -2: no value)
local reply = {}
for i, key in ipairs(KEYS) do
  reply[2 * i - 1] = redis.call('GET', key)
  reply[2 * i] = redis.call('PTTL', key)
end
return reply
