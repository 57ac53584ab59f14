-- Gives permits back.
--
-- ARGV[1]: the tokens, one after the other
-- Reply: {number that was still held}
local held = 0
for i = 1, #ARGV[1], 11 do
  if remove(string.sub(ARGV[1], i, i + 10)) then
    held = held + 1
  end
end
if malformed then
  return {-1}
end
if held > 0 then
  return keep({held})
end
return {0}
