-- The block of the limit before it, algorithm 6.
--
-- Value: `until:level:window_end:strikes`: the end of the last block in Unix microseconds, and how many there were in a row; the end of
--   the window in which the strikes count, and their number
-- Arguments, times in microseconds: after: so many strikes begin a block; window: the time within which they count; time: the length of
--   the first block; longest: that of the longest; demand: 0 looks, 1 counts a refusal by the limit before it as a strike
-- Reply: the microseconds until the block ends, and the level of the block that has begun with this strike, else 0
local MAX_LEVEL = 50

-- If the limit before it allows what it is asked.
local own_allowed = true
for i = 1, 5 do
  local algorithm = algorithms[i]
  algorithms[i] = function(value)
    local allowed, settle = algorithm(value)
    own_allowed = allowed
    return allowed, settle
  end
end

algorithms[6] = function(value)
  local after, window, time, longest, demand = number(), number(), number(), number(), number()
  local ends, level, window_ends, strikes, cut = 0, 0, 0, 0, false
  if value then
    local block, blocks, last, count = string.match(value, '^(%d+):(%d+):(%d+):(%d+)$')
    block, blocks, last, count = tonumber(block), tonumber(blocks), tonumber(last), tonumber(count)
    if not count or block > MAX_WHOLE or blocks > MAX_LEVEL or last > MAX_WHOLE or count > MAX_COUNT then
      return nil
    end
    if block > now + longest + SLACK then
      -- A clock ran backwards, or blocks were longer.
      ends, level, cut = now + longest, blocks, true
    elseif block + longest > now then
      ends, level = block, blocks
    end
    if last > now then
      strikes, window_ends = count, last
      if last > now + window + SLACK then
        window_ends = now + window
      end
    end
  end
  local wait, counts = math.max(0, ends - now), demand == CHARGE
  local is_strike = counts and wait == 0 and not own_allowed

  return not (counts and wait > 0), function(key)
    local begun = 0
    if is_strike then
      if strikes == 0 then
        window_ends = now + window
      end
      strikes = strikes + 1
      if strikes >= after then
        wait = math.min(longest, time * 2 ^ level)
        ends, level = now + wait, math.min(level + 1, MAX_LEVEL)
        window_ends, strikes, begun = 0, 0, level
      end
    end
    if is_strike or counts and cut then
      local lives = math.max(ends > 0 and ends + longest or 0, window_ends) - now
      keep(key, string.format('%.0f:%.0f:%.0f:%.0f', ends, level, window_ends, strikes), lives)
    end
    return wait, begun
  end
end

