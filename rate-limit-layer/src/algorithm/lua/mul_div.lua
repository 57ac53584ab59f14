-- Returns a * b / d rounded down, and the rest. b is at most d, and 15 * d below 2^53.
local function mul_div(a, b, d)
  local product = a * b
  if product <= 9007199254740991 then
    local rest = product % d
    return (product - rest) / d, rest
  end
  -- Long division, by digits of three bits.
  local scale, quotient, rest = 1, 0, 0
  while scale * 8 <= a do
    scale = scale * 8
  end
  while scale >= 1 do
    local digit = (a - a % scale) / scale
    a = a - digit * scale
    rest = rest * 8 + digit * b
    local part = (rest - rest % d) / d
    quotient, rest, scale = quotient * 8 + part, rest - part * d, scale / 8
  end
  return quotient, rest
end

