-- Charges, looks at or refunds limits of one identity: all of them or none. Their algorithms may differ.
--
-- KEYS[i]: what is kept for limit i, as described at its algorithm
-- ARGV: for each limit the number of its algorithm, and the arguments that are described there. For all but GCRA they end in
--   demand: 0 looks, 1 charges if all limits allow it, 2 takes a charge back
--   cost: how many units
--   age: of a refund, the most microseconds that have passed since the charge
-- Reply: {1 if all limits allow it, else 0; then for each limit what its algorithm replies}, or {-1} if a value is not of this form,
--   or the clock shows a time that lies in none of the given calendar windows
local settle, admitted = {}, true

for i = 1, #KEYS do
  local allowed
  allowed, settle[i] = algorithms[number()](call('GET', KEYS[i]))
  if allowed == nil then
    return {-1}
  end
  admitted = admitted and allowed
end

local reply = {admitted and 1 or 0}
for i = 1, #KEYS do
  local count = #reply
  reply[count + 1], reply[count + 2], reply[count + 3] = settle[i](KEYS[i], admitted)
end

return reply
