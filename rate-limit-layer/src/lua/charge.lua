-- Charges, looks at or refunds GCRA limits of one subject: all of them or none.
--
-- KEYS  one a limit; the value is `time`, or `time:fraction`: when nothing is owed any more, in Unix microseconds
-- ARGV  three a limit: units (what a microsecond pays back), full (the most that may be owed), and the charge
--       (positive: owed more if all limits allow it; 0: look; negative: paid back)
-- reply {1 if all limits allow it else 0, what each limit then owes}; {-1} if a value is not of this form
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local debts, cut, admitted = {}, {}, 1

for i = 1, #KEYS do
  local units, full, charge = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local debt = 0
  local value = redis.call('GET', KEYS[i])
  if value then
    local whole, fraction = string.match(value, '^(%d+):?(%d*)$')
    if not whole then
      return {-1}
    end
    whole, fraction = tonumber(whole), tonumber(fraction) or 0
    if whole >= now then
      debt = (whole - now) * units + fraction
    end
    if debt > full then
      debt = full
      cut[i] = true
    end
  end
  debts[i] = debt
  if debt + charge > full then
    admitted = 0
  end
end

for i = 1, #KEYS do
  local units, charge = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i])
  local debt = debts[i]
  if admitted == 1 then
    debt = math.max(0, debt + charge)
  end
  debts[i] = debt
  if charge ~= 0 and (admitted == 1 or cut[i]) then
    if debt == 0 then
      redis.call('DEL', KEYS[i])
    else
      local fraction = math.fmod(debt, units)
      local kept = string.format('%.0f', now + (debt - fraction) / units)
      if fraction > 0 then
        kept = kept .. string.format(':%.0f', fraction)
      end
      redis.call('SET', KEYS[i], kept, 'PX', string.format('%.0f', math.ceil(debt / (units * 1000))))
    end
  end
end

return {admitted, unpack(debts)}
