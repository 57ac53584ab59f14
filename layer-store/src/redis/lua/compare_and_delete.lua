-- KEYS[1]  what is deleted
-- ARGV[1]  what must stand there
-- Replies how many were deleted.
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
