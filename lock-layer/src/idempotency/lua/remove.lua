-- Removes a run's claim, so that the next request with its key runs.
--
-- KEYS[1]  the record
-- ARGV     the claim's first 46 characters: version, state P, fingerprint, token
-- reply    {1}: removed; {0}: it is not there, or another's, or over
local stands = redis.call('GETRANGE', KEYS[1], 0, 45)
if stands ~= '' and stands == ARGV[1] then
  redis.call('DEL', KEYS[1])
  return {1}
end
return {0}
