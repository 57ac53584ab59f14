-- Removes a run's claim, so that the next request with its key runs.
--
-- KEYS[1]: the record
-- ARGV[1]: the first 46 characters of the claim: version, state P, fingerprint, run token
-- Reply: 1 removed, 0 there is no record, it is another run's, or its run has ended
local stands = redis.call('GETRANGE', KEYS[1], 0, 45)
if stands ~= '' and stands == ARGV[1] then
  redis.call('DEL', KEYS[1])
  return 1
end
return 0
