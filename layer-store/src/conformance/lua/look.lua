-- Looks at keys and changes nothing.
-- KEYS: any
-- Reply: for each key its value or nil, and its life left in ms (-1: for ever, -2: nothing there)
local reply = {}
for i, key in ipairs(KEYS) do
  reply[2 * i - 1] = redis.call('GET', key)
  reply[2 * i] = redis.call('PTTL', key)
end
return reply
