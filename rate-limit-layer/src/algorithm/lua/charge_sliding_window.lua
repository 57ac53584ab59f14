-- Charges one sliding window. Behind `one_window.lua` and `mul_div.lua`.
--
-- KEYS[1]: `end:current:previous`, as described at the algorithm for the program `charge`
-- ARGV: the limit, the length of a window in microseconds, and the cost, above 0
-- Reply: if it was charged and would be once more, remaining * (window + 1) + the microseconds until the current window ends. Else, or if
--   Lua has no room for that number, what the program `charge` replies. -1 if the value is not of this form
local ends, digits, current, previous, cut = start + window, nil, 0, '0', false

if value then
  local ended, last, before = string.match(value, '^(%d+):(%d+):(%d+)$')
  if not ended or ended - 9007199254740991 > 0 or last - 1099511627776 > 0 or before - 1099511627776 > 0 then
    return -1
  end
  local over = ended - ends
  if over > -window then
    current, previous = last + 0, before
    if ends + over - now > window + 1000000 then
      -- A clock ran backwards, or the windows were longer.
      cut = true
    elseif over >= 0 then
      -- Of this window. Or of the next, which has begun for another check: two checks out of order.
      ends, digits = ends + over, ended
    end
  elseif over > -2 * window then
    previous = last
  end
end

local left = ends - now
local carried, rest = mul_div(previous + 0, math.min(left, window), window)
if rest > 0 then
  carried = carried + 1
end
local remaining = limit - current - carried
local charged = cost <= remaining
if charged then
  current, remaining = current + cost, remaining - cost
end
local reset = left
if current > 0 then
  reset = left + window
elseif previous + 0 == 0 then
  reset = 0
end
if charged or cut and reset > 0 then
  -- Lua writes a number of at most 14 digits faster than Redis does. That of the end is written once for each window.
  local kept = (digits or string.format('%.0f', ends)) .. ':' .. current .. ':' .. previous
  call('SET', KEYS[1], kept, 'PX', (reset + 999 - (reset + 999) % 1000) / 1000 .. '')
elseif cut then
  call('DEL', KEYS[1])
end
local reply = remaining * (window + 1) + left
if charged and cost <= remaining and left <= window and reply <= 9007199254740991 then
  return reply
end
local wait = 0
if remaining >= cost then
  -- It would be charged now.
elseif current + cost <= limit then
  wait = left - mul_div(window, limit - current - cost, previous + 0)
else
  wait = left + window - mul_div(window, math.max(0, limit - cost), current)
end
return {charged and 1 or 0, math.max(0, remaining), reset, wait}
