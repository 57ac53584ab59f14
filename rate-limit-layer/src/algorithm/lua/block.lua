-- The block of a limit, algorithm 6. Its key follows the one of its limit.
--
-- Value: `ends:level:window_ends:strikes`: when the last block ends and how many there were, and the strikes in the window that ends at
--   `window_ends`. Times are Unix microseconds
-- Arguments:
--   after: so many strikes begin a block
--   window: the length of the windows in which they are counted
--   time: for how long the first block goes on. Each later one is twice as long
--   longest: the most for which one goes on. As long after the end of a block, it is forgotten
--   demand: 1 charges the limit, and a refusal by the limit is a strike; 0 looks
-- Reply: the microseconds until the block ends. 0: there is none
algorithms[6] = function(value, is_allowed)
  local after, window, time, longest, demand = number(), number(), number(), number(), number()
  local ends, level, window_ends, strikes, cut = 0, 0, 0, 0, false
  if value then
    ends, level, window_ends, strikes = string.match(value, '^(%d+):(%d+):(%d+):(%d+)$')
    ends, level, window_ends, strikes = tonumber(ends), tonumber(level), tonumber(window_ends), tonumber(strikes)
    if not strikes or ends > MAX_WHOLE or level > MAX_LEVEL or window_ends > MAX_WHOLE or strikes > MAX_COUNT then
      return nil
    end
    if ends > now + longest + SLACK then
      -- A clock ran backwards, or blocks were longer.
      ends, cut = now + longest, true
    end
    if window_ends > now + window + SLACK then
      window_ends, cut = now + window, true
    end
    if ends + longest <= now then
      ends, level = 0, 0
    end
    if window_ends <= now then
      window_ends, strikes = 0, 0
    end
  end
  local is_charge, wait = demand == CHARGE, math.max(0, ends - now)

  return not (is_charge and wait > 0), function(key)
    local is_strike = is_charge and wait == 0 and not is_allowed
    if is_strike then
      if strikes == 0 then
        window_ends = now + window
      end
      strikes = strikes + 1
      if strikes >= after then
        wait = math.min(time * 2 ^ level, longest)
        ends, level, window_ends, strikes = now + wait, math.min(level + 1, MAX_LEVEL), 0, 0
      end
    end
    if is_strike or is_charge and cut then
      local lives = math.max(ends > 0 and ends + longest - now or 0, window_ends - now)
      keep(key, string.format('%.0f:%.0f:%.0f:%.0f', ends, level, window_ends, strikes), lives)
    end
    return wait
  end
end

