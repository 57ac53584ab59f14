-- Takes a permit, if fewer than the limit are held.
--
-- ARGV[1]: the limit; 0 only counts
-- ARGV[2]: the lease in ms
-- ARGV[3]: the token
-- Reply: {1, number held with this one}, or {0, number held}
local at = now + ARGV[2]
local is_cut = false
-- More than a second: a clock ran backwards. Less comes from two nodes that read the time out of order.
if count() > 0 and ends(count() - 1) > at + 1000 then
  local i = count()
  while i > 0 and ends(i - 1) > at do
    i = i - 1
  end
  local rest = {}
  for j = i, count() - 1 do
    rest[#rest + 1] = record(string.sub(value, j * 24 + 1, j * 24 + 11), at)
  end
  value = string.sub(value, 1, i * 24) .. table.concat(rest)
  is_cut = true
end

local is_taken = count() < tonumber(ARGV[1])
if is_taken then
  insert(record(ARGV[3], at), at)
end
if malformed then
  return {-1}
end
local reply = {is_taken and 1 or 0, count()}
-- A cut that is not kept would be made again at each refusal, and lock the identity out until the old ends.
if is_taken or is_cut then
  return keep(reply)
end
return reply
