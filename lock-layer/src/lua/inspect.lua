-- Looks at keys for an operator, and changes nothing.
--
-- KEYS[1], KEYS[2], ..: locks or records
-- Reply: for each key its value or nil, and the ms until it ends (-2: there is none)
local reply = {}
for i, key in ipairs(KEYS) do
  reply[2 * i - 1] = redis.call('GET', key)
  reply[2 * i] = redis.call('PTTL', key)
end
return reply
