-- KEYS[1]: the key to delete
-- ARGV[1]: the value that must be there
-- Reply: 1 if it was deleted, else 0
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
