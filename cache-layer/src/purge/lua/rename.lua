-- Makes all entries invalid, unless the store has this server's name already.
--
-- KEYS[1]: the name of the server that was checked last
-- KEYS[2], ..: the stamps of all entries
-- ARGV[1]: the time to live of the name, in milliseconds
-- ARGV[2]: the name of this server
-- Reply: {1} if the name is new, else {0}
if redis.call('GET', KEYS[1]) == ARGV[2] then
  return {0}
end
for stamp = 2, #KEYS do
  redis.call('DEL', KEYS[stamp])
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[1])
return {1}
