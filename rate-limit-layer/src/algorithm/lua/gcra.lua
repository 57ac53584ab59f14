-- GCRA, algorithm 1.
--
-- Value: `time` or `time:fraction`, when nothing is owed any more, in Unix microseconds
-- Arguments: three numbers, and two more if its parts are more than 1:
--   parts: how many of them make a microsecond
--   full: the largest debt in whole microseconds
--   charge: in whole microseconds: positive is owed more, if all limits allow it; 0 only looks; negative is paid back
--   the fractions of full and charge, in parts; that of a negative charge is negative too
-- Reply: the debt in whole microseconds, and, if its parts are more than 1, the fraction
algorithms[1] = function(value)
  local parts, full, charge, full_fraction, charge_fraction = number(), number(), number(), 0, 0
  if parts > 1 then
    full_fraction, charge_fraction = number(), number()
  end
  local micros, fraction, cut = 0, 0, false
  if value then
    local whole, rest = value, 0
    -- 16 digits, from 2001 on. They are read by the subtraction, which raises an error if they are none.
    if #value ~= 16 and not string.find(value, '^[1-9]%d*$') then
      whole, rest = string.match(value, '^([1-9]%d*):([1-9]%d*)$')
      rest = tonumber(rest)
      if not whole or rest > 4294967295 then
        return nil
      end
    end
    micros, fraction = whole - now, rest
    if micros < 0 then
      micros, fraction = 0, 0
    elseif fraction >= parts then
      -- A quota of more parts wrote it. It is less than a microsecond.
      micros, fraction = micros + 1, 0
    end
    -- More than a second: a clock ran backwards, or a quota was lowered. Less comes from two checks out of order.
    local over = micros - full - SLACK
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
  local is_look = charge == 0 and charge_fraction == 0
  local is_over = owed > full or owed == full and owed_fraction > full_fraction

  return not (is_charge and is_over), function(key, admitted)
    if not admitted then
      owed, owed_fraction = micros, fraction
    end
    if (admitted or cut) and not is_look then
      if owed_fraction > 0 then
        keep(key, string.format('%.0f:%.0f', now + owed, owed_fraction), owed + 1)
      elseif owed > 0 then
        -- A whole number goes to Redis as it is, which writes all of its digits. Lua's own conversion keeps 14.
        keep(key, now + owed, owed)
      else
        call('DEL', key)
      end
    end
    if parts > 1 then
      return owed, owed_fraction
    end
    return owed
  end
end

