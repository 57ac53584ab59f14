-- The sliding-window counter, algorithm 2.
--
-- Value: `end:current:previous`: the end of the current window in Unix microseconds, and what was charged in it and in the one before
-- Arguments: limit, window, demand, cost, age
-- Reply: remaining, the microseconds until all is free, and those until `cost` more pass
algorithms[2] = function(value)
  local limit, window, demand, cost, age = number(), number(), number(), number(), number()
  local start = now - now % window
  local ends, current, previous, cut = start + window, 0, 0, false
  if value then
    local ended, last, before = string.match(value, '^(%d+):(%d+):(%d+)$')
    ended, last, before = tonumber(ended), tonumber(last), tonumber(before)
    if not before or ended > MAX_WHOLE or last > MAX_COUNT or before > MAX_COUNT then
      return nil
    end
    if ended > start then
      current, previous = last, before
      if ended - now > window + SLACK then
        -- A clock ran backwards, or the windows were longer.
        cut = true
      elseif ended > ends then
        -- Two checks out of order: the next window has begun.
        ends = ended
      end
    elseif ended > start - window then
      previous = last
    end
  end
  local left = ends - now
  local weight = math.min(left, window)

  local function outcome(current, previous, is_kept)
    local carried, rest = mul_div(previous, weight, window)
    if rest > 0 then
      carried = carried + 1
    end
    local reset, wait = 0, 0
    if current > 0 then
      reset = left + window
    elseif previous > 0 then
      reset = left
    end
    if current + cost + carried > limit then
      if current + cost <= limit then
        wait = left - mul_div(window, limit - current - cost, previous)
      else
        wait = left + window - mul_div(window, math.max(0, limit - cost), current)
      end
    end
    local outcome = {math.max(0, limit - current - carried), reset, wait}
    if is_kept and reset == 0 then
      outcome.value = false
    elseif is_kept then
      outcome.value = string.format('%.0f:%.0f:%.0f', ends, current, previous)
      outcome.lives = reset
    end
    return outcome
  end

  local before = outcome(current, previous, cut and (demand == CHARGE or demand == REFUND))
  if demand == CHARGE then
    return either(before[3] == 0, outcome(current + cost, previous, true), before)
  elseif demand == REFUND then
    -- Where it is not sure in which window the charge was made, it was the older one.
    start = ends - window
    if start <= now - age then
      current = math.max(0, current - cost)
    elseif start - window <= now - age then
      previous = math.max(0, previous - cost)
    end
    return either(true, outcome(current, previous, true), before)
  end
  return either(true, before, before)
end

