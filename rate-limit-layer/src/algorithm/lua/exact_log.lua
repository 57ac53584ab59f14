-- The exact log, algorithm 4.
--
-- Value: the times of what was charged in the last window, the oldest first, each in Unix microseconds with 16 digits
-- Arguments: limit, window, demand, cost, age
-- Reply: remaining, the microseconds until all is free, and those until `cost` more pass
algorithms[4] = function(value)
  local limit, window, demand, cost, age = number(), number(), number(), number(), number()
  local log, cut, broken = value or '', false, #(value or '') % 16 ~= 0

  local function time_at(log, index)
    local digits = string.sub(log, index * 16 - 15, index * 16)
    if string.find(digits, '^%d+$') then
      return tonumber(digits)
    end
    broken = true
    return 0
  end

  -- Returns the index of the first time from `least` on, by bisection.
  local function first_from(log, least)
    local low, high = 1, #log / 16 + 1
    while low < high do
      local middle = math.floor((low + high) / 2)
      if time_at(log, middle) >= least then
        high = middle
      else
        low = middle + 1
      end
    end
    return low
  end

  if broken then
    return nil
  end
  if log ~= '' and time_at(log, #log / 16) > now + SLACK then
    -- A clock ran backwards: what lies ahead of it was charged now.
    local past = string.sub(log, 1, (first_from(log, now + 1) - 1) * 16)
    log, cut = past .. string.rep(string.format('%016.0f', now), (#log - #past) / 16), true
  end
  log = string.sub(log, (first_from(log, now - window + 1) - 1) * 16 + 1)

  local function outcome(log, is_kept)
    local used, reset, wait = #log / 16, 0, 0
    if used > 0 then
      reset = time_at(log, used) + window - now
      local leaving = math.min(used, used + cost - limit)
      if leaving > 0 then
        wait = time_at(log, leaving) + window - now
      end
    end
    local outcome = {math.max(0, limit - used), reset, wait}
    if is_kept and used == 0 then
      outcome.value = false
    elseif is_kept then
      outcome.value, outcome.lives = log, reset
    end
    return outcome
  end

  local allowed, after = true, nil
  local before = outcome(log, cut and (demand == CHARGE or demand == REFUND))
  if demand == CHARGE then
    allowed = before[3] == 0
    after = before
    if allowed then
      -- Not before the newest one, so that they stay in order.
      local stamp = math.max(now, now + before[2] - window)
      after = outcome(log .. string.rep(string.format('%016.0f', stamp), cost), true)
    end
  elseif demand == REFUND then
    local rest = log
    if age < window then
      -- The oldest that may be the charge. What has left the window is not given back.
      local first = first_from(log, now - age)
      rest = string.sub(log, 1, (first - 1) * 16) .. string.sub(log, (first - 1 + cost) * 16 + 1)
    end
    after = outcome(rest, true)
  else
    after = before
  end
  if broken then
    return nil
  end
  return either(allowed, after, before)
end

