-- Writes a run's record: over its own claim, over what it wrote before, or where no record is.
--
-- A record opens with a version, a state (P while the run lasts), the fingerprint and the run's token: 46 characters. Only
-- these are read, however long the record.
--
-- KEYS[1]: the record
-- ARGV[1]: the life of the record in ms
-- ARGV[2]: the record; any bytes after the first 46
-- Reply: 1 written, 0 the record is another run's, or this is a late renewal of a run that has ended
local old = redis.call('GETRANGE', KEYS[1], 0, 45)
-- Its own claim is the usual case.
if old ~= '' and old ~= '1P' .. string.sub(ARGV[2], 3, 46) then
  local own = string.sub(old, 3) == string.sub(ARGV[2], 3, 46)
  local state = string.sub(old, 1, 2)
  if not own or (state ~= '1P' and state ~= string.sub(ARGV[2], 1, 2)) then
    return 0
  end
end
local written = redis.pcall('SET', KEYS[1], ARGV[2], 'PX', ARGV[1])
if written.err then
  -- A full server takes no value. It takes a longer life for a claim that is there, so that its run is not repeated.
  local is_renewal = old ~= '' and string.sub(ARGV[2], 1, 2) == '1P'
  if not (is_renewal and string.find(written.err, 'OOM', 1, true)) then
    return written
  end
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return 1
