-- Charges, looks at or refunds GCRA limits of one identity: all of them or none.
--
-- KEYS[i]: the state of limit i: `time` or `time:fraction`, when nothing is owed any more, in Unix microseconds
-- ARGV[3i-2]: units: the part of a debt that a microsecond pays back
-- ARGV[3i-1]: full: the largest debt
-- ARGV[3i]: the charge: positive is owed more, if all limits allow it; 0 only looks; negative is paid back
-- Reply: {1 if all limits allow it, else 0; then the debt to each limit}, or {-1} if a value is not of this form
local call = redis.call
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local reply, cut = {1}, nil

for i = 1, #KEYS do
  local value = call('GET', KEYS[i])
  local debt, full = 0, tonumber(ARGV[3 * i - 1])
  if value then
    local whole, fraction = value, 0
    if not string.find(value, '^[1-9]%d*$') then
      whole, fraction = string.match(value, '^([1-9]%d*):([1-9]%d*)$')
      if not whole then
        return {-1}
      end
    end
    local micros, units = whole - now, tonumber(ARGV[3 * i - 2])
    if micros >= 0 then
      debt = micros * units + fraction
    end
    -- More than a second: a clock ran backwards, or a quota was lowered. Less comes from two checks out of order.
    if debt > full + units * 1000000 then
      debt, cut = full, cut or {}
      cut[i] = true
    end
  end
  local charge = tonumber(ARGV[3 * i])
  if charge > 0 and debt + charge > full then
    reply[1] = 0
  end
  reply[i + 1] = debt
end

local admitted = reply[1] == 1
for i = 1, #KEYS do
  local charge = tonumber(ARGV[3 * i])
  if charge ~= 0 and (admitted or cut and cut[i]) then
    local debt, units = reply[i + 1], tonumber(ARGV[3 * i - 2])
    if admitted then
      debt = debt + charge
    end
    if debt <= 0 then
      reply[i + 1] = 0
      call('DEL', KEYS[i])
    else
      reply[i + 1] = debt
      -- Exact, as is all of this: a debt is below 2^52.
      local fraction = debt % units
      -- A whole number goes to Redis as it is, which writes all of its digits. Lua's own conversion keeps 14.
      local kept = now + (debt - fraction) / units
      if fraction > 0 then
        kept = string.format('%.0f:%.0f', kept, fraction)
      end
      call('SET', KEYS[i], kept, 'PX', math.ceil(debt / (units * 1000)))
    end
  end
end

return reply
