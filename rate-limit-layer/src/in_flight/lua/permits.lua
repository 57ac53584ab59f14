-- The permits of one identity. This head is followed by one of take.lua, renew.lua and give_back.lua.
--
-- KEYS[1]: a record for each permit: its token, 11 characters of base64url, and its end in Unix milliseconds, 13 digits. Records
--   are in the order of their ends. They are counted from 0 here.
-- Reply: {-1}, and nothing is written, if the value is not of this form
local call = redis.call
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local value = call('GET', KEYS[1]) or ''
local malformed = #value % 24 ~= 0
if malformed then
  return {-1}
end

local function count()
  return #value / 24
end

local function ends(i)
  local digits = string.match(value, '^%d%d%d%d%d%d%d%d%d%d%d%d%d', i * 24 + 12)
  malformed = malformed or not digits
  return tonumber(digits or now)
end

local function record(token, at)
  return token .. string.format('%013.0f', at)
end

-- Puts in records that all end at this time.
local function insert(records, at)
  local i = count()
  while i > 0 and ends(i - 1) > at do
    i = i - 1
  end
  value = string.sub(value, 1, i * 24) .. records .. string.sub(value, i * 24 + 1)
end

-- Returns true if there was such a record.
local function remove(token)
  local from = 1
  while true do
    local at = string.find(value, token, from, true)
    if not at then
      return false
    end
    -- Elsewhere it is a part of two records.
    if at % 24 == 1 then
      value = string.sub(value, 1, at - 1) .. string.sub(value, at + 24)
      return true
    end
    from = at + 1
  end
end

-- Writes the records until the last of them ends.
local function keep(reply)
  local last = value ~= '' and ends(count() - 1)
  if malformed then
    return {-1}
  end
  if last and last > now then
    call('SET', KEYS[1], value, 'PX', last - now)
  else
    call('DEL', KEYS[1])
  end
  return reply
end

local expired = 0
while expired < count() and ends(expired) <= now do
  expired = expired + 1
end
value = string.sub(value, expired * 24 + 1)
