-- Renews the permits of one process, and puts back those that are gone: their work goes on.
--
-- ARGV[1]: the lease in ms
-- ARGV[2]: the tokens, one after the other
-- Reply: {number put back}
local at = now + ARGV[1]
local records, gone = {}, 0
for i = 1, #ARGV[2], 11 do
  local token = string.sub(ARGV[2], i, i + 10)
  if not remove(token) then
    gone = gone + 1
  end
  records[#records + 1] = record(token, at)
end
insert(table.concat(records), at)
return keep({gone})
