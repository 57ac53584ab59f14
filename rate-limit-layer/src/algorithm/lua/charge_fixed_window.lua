-- Charges one fixed window. Behind `one_window.lua`.
--
-- KEYS[1]: `end:used`, as described at the algorithm for the program `charge`
-- ARGV: the limit, the length of a window in microseconds, and the cost, above 0
-- Reply: if it was charged and would be once more, remaining * (window + 1) + the microseconds until the window ends. Else, or if Lua
--   has no room for that number, what the program `charge` replies. -1 if the value is not of this form
local ends, digits, used, cut = start + window, nil, 0, false

if value then
  local ended, count = string.match(value, '^(%d+):(%d+)$')
  if not ended or ended - 9007199254740991 > 0 or count - 1099511627776 > 0 then
    return -1
  end
  local over = ended - ends
  if over > -window then
    used = count + 0
    if over > window or over > 0 and now < ends - 1000000 then
      -- A clock ran backwards, or the windows were longer.
      cut = true
    elseif over >= 0 then
      -- Of this window. Or of the next, which has begun for another check: two checks out of order.
      ends, digits = ends + over, ended
    end
  end
end

local left, remaining = ends - now, limit - used
local charged = cost <= remaining
if charged then
  used, remaining = used + cost, remaining - cost
end
if charged or cut then
  -- Lua writes a number of at most 14 digits faster than Redis does. That of the end is written once for each window.
  local kept = (digits or string.format('%.0f', ends)) .. ':' .. used
  call('SET', KEYS[1], kept, 'PX', (left + 999 - (left + 999) % 1000) / 1000 .. '')
end
local reply = remaining * (window + 1) + left
if charged and cost <= remaining and left <= window and reply <= 9007199254740991 then
  return reply
end
return {charged and 1 or 0, math.max(0, remaining), used > 0 and left or 0, remaining < cost and left or 0}
