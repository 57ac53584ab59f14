-- Charges, looks at or refunds GCRA limits of one identity: all of them or none.
--
-- KEYS[i]: the state of limit i: `time` or `time:fraction`, when nothing is owed any more, in Unix microseconds
-- ARGV: three numbers for each limit, and two more if its parts are more than 1:
--   parts: how many of them make a microsecond
--   full: the largest debt in whole microseconds
--   charge: in whole microseconds: positive is owed more, if all limits allow it; 0 only looks; negative is paid back
--   the fractions of full and charge, in parts; that of a negative charge is negative too
-- Reply: {1 if all limits allow it, else 0; then the debt to each limit, in whole microseconds, and, if its parts are more than
--   1, the fraction}, or {-1} if a value is not of this form
local call = redis.call
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local limits, at, admitted = {}, 0, true

local function number()
  at = at + 1
  return tonumber(ARGV[at])
end

for i = 1, #KEYS do
  local parts, full, charge, full_fraction, charge_fraction = number(), number(), number(), 0, 0
  if parts > 1 then
    full_fraction, charge_fraction = number(), number()
  end
  local value = call('GET', KEYS[i])
  local micros, fraction, cut = 0, 0, false
  if value then
    local whole, rest = value, 0
    if not string.find(value, '^[1-9]%d*$') then
      whole, rest = string.match(value, '^([1-9]%d*):([1-9]%d*)$')
      rest = tonumber(rest)
      if not whole or rest > 4294967295 then
        return {-1}
      end
    end
    if whole - now >= 0 then
      micros, fraction = whole - now, rest
      -- A quota of more parts wrote it. It is less than a microsecond.
      if fraction >= parts then
        micros, fraction = micros + 1, 0
      end
    end
    -- More than a second: a clock ran backwards, or a quota was lowered. Less comes from two checks out of order.
    local over = micros - full - 1000000
    if over > 0 or over == 0 and fraction > full_fraction then
      micros, fraction, cut = full, full_fraction, true
    end
  end
  local owed, owed_fraction = micros + charge, fraction + charge_fraction
  if owed_fraction >= parts then
    owed, owed_fraction = owed + 1, owed_fraction - parts
  elseif owed_fraction < 0 then
    owed, owed_fraction = owed - 1, owed_fraction + parts
  end
  if owed < 0 then
    owed, owed_fraction = 0, 0
  end
  local is_charge = charge > 0 or charge_fraction > 0
  if is_charge and (owed > full or owed == full and owed_fraction > full_fraction) then
    admitted = false
  end
  limits[i] = {
    parts = parts, debt = {micros, fraction}, owed = {owed, owed_fraction}, cut = cut,
    is_look = charge == 0 and charge_fraction == 0,
  }
end

local reply = {admitted and 1 or 0}
for i = 1, #KEYS do
  local limit = limits[i]
  local owed = admitted and limit.owed or limit.debt
  local micros, fraction = owed[1], owed[2]
  if not limit.is_look and (admitted or limit.cut) then
    if micros == 0 and fraction == 0 then
      call('DEL', KEYS[i])
    else
      -- A whole number goes to Redis as it is, which writes all of its digits. Lua's own conversion keeps 14.
      local kept, paid = now + micros, micros
      if fraction > 0 then
        kept, paid = string.format('%.0f:%.0f', kept, fraction), micros + 1
      end
      call('SET', KEYS[i], kept, 'PX', math.ceil(paid / 1000))
    end
  end
  reply[#reply + 1] = micros
  if limit.parts > 1 then
    reply[#reply + 1] = fraction
  end
end

return reply
