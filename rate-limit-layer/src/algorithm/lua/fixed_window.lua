-- The fixed window, algorithm 3, from the first multiple of its length; and the calendar window, algorithm 5, between given edges.
--
-- Value: `end:used`: the end of the window in Unix microseconds, and what was charged in it
-- Arguments: limit; for algorithm 3 the length of a window, for algorithm 5 the edges of three windows; demand, cost, age
-- Reply: remaining, the microseconds until all is free, and those until `cost` more pass
local function fixed_window(value, limit, start, ends, next_ends)
  local demand, cost, age = number(), number(), number()
  local used, cut = 0, false
  if value then
    local ended, count = string.match(value, '^(%d+):(%d+)$')
    ended, count = tonumber(ended), tonumber(count)
    if not count or ended > MAX_WHOLE or count > MAX_COUNT then
      return nil
    end
    if ended > start then
      used = count
      if ended > next_ends or ended > ends and now < ends - SLACK then
        -- A clock ran backwards, or the windows were longer.
        cut = true
      elseif ended > ends then
        -- Two checks out of order: the next window has begun.
        start, ends = ends, ended
      end
    end
  end
  local left = ends - now

  local function outcome(used, is_kept)
    local outcome = {math.max(0, limit - used), used > 0 and left or 0, used + cost > limit and left or 0}
    if is_kept and used == 0 then
      outcome.value = false
    elseif is_kept then
      outcome.value, outcome.lives = string.format('%.0f:%.0f', ends, used), left
    end
    return outcome
  end

  if demand == CHARGE then
    return either(used + cost <= limit, outcome(used + cost, true), outcome(used, cut))
  elseif demand == REFUND then
    -- What was charged in a window that is over is not given back.
    local rest = start <= now - age and math.max(0, used - cost) or used
    return either(true, outcome(rest, true), outcome(used, cut))
  end
  local look = outcome(used, false)
  return either(true, look, look)
end

algorithms[3] = function(value)
  local limit, window = number(), number()
  local start = now - now % window
  return fixed_window(value, limit, start, start + window, start + 2 * window)
end

algorithms[5] = function(value)
  local limit, first, second, third, fourth = number(), number(), number(), number(), number()
  if now < first or now >= fourth then
    return nil
  elseif now < second then
    return fixed_window(value, limit, first, second, third)
  elseif now < third then
    return fixed_window(value, limit, second, third, fourth)
  end
  return fixed_window(value, limit, third, fourth, fourth)
end

