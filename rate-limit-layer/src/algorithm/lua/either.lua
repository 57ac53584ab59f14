-- Returns what an algorithm returns that knows both of its outcomes: numbers to reply, with the `value` to keep, which is false if there is
-- none, and the microseconds for which it lives.
local function either(allowed, after, before)
  return allowed, function(key, admitted)
    local outcome = admitted and after or before
    if outcome.value then
      keep(key, outcome.value, outcome.lives)
    elseif outcome.value == false then
      call('DEL', key)
    end
    return outcome[1], outcome[2], outcome[3]
  end
end

