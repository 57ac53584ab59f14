-- Runs before a shipped script, which sees this `redis` and not the last two arguments.
-- KEYS[..]: those of the script
-- ARGV[last - 1]: the test's time in Unix microseconds
-- ARGV[last]: the key of a hash with the time to live of each key, as `since:ms`
-- Reply: that of the script
local redis = (function(server)
  local lives = table.remove(ARGV)
  local now = table.remove(ARGV)
  local declared = {}
  for _, key in ipairs(KEYS) do
    declared[key] = true
  end

  local function check(key)
    if not declared[key] then
      error('the script names a key that is not in KEYS: ' .. tostring(key))
    end
  end

  -- Redis has checked the number already. From here on it is a text.
  local function note(key, ms)
    if type(ms) == 'number' then
      ms = string.format('%.0f', ms)
    end
    server.call('PERSIST', key)
    server.call('HSET', lives, key, now .. ':' .. ms)
  end

  local commands = {}
  -- True within `redis.pcall`.
  local catches = false

  function commands.TIME()
    -- Not padded, as in Redis.
    return {string.sub(now, 1, -7), tostring(tonumber(string.sub(now, -6)))}
  end

  function commands.GET(key)
    check(key)
    return server.call('GET', key)
  end

  function commands.GETRANGE(key, first, last)
    check(key)
    return server.call('GETRANGE', key, first, last)
  end

  function commands.EXISTS(...)
    for _, key in ipairs({...}) do
      check(key)
    end
    return server.call('EXISTS', ...)
  end

  function commands.MGET(...)
    for _, key in ipairs({...}) do
      check(key)
    end
    return server.call('MGET', ...)
  end

  function commands.SET(key, value, px, ms, option, more)
    check(key)
    if type(px) ~= 'string' or string.upper(px) ~= 'PX' or ms == nil then
      error("write redis.call('SET', key, value, 'PX', ms): every value has an end")
    end
    if more ~= nil or (option ~= nil and option ~= 'NX' and option ~= 'GET') then
      error("write redis.call('SET', key, value, 'PX', ms), and at most one of 'NX' and 'GET'")
    end
    local set = catches and server.pcall or server.call
    local reply
    if option then
      reply = set('SET', key, value, 'PX', ms, option)
    else
      reply = set('SET', key, value, 'PX', ms)
    end
    if type(reply) == 'table' and reply.err then
      return reply
    end
    if option ~= 'NX' or reply then
      note(key, ms)
    end
    return reply
  end

  -- A value that is made here has no end. The harness finds it if the script leaves it so.
  function commands.INCRBY(key, number)
    check(key)
    return server.call('INCRBY', key, number)
  end

  function commands.PEXPIRE(key, ms, more)
    check(key)
    if more ~= nil then
      error("write redis.call('PEXPIRE', key, ms), without options")
    end
    local moved = server.call('PEXPIRE', key, ms)
    if server.call('EXISTS', key) == 1 then
      note(key, ms)
    else
      server.call('HDEL', lives, key)
    end
    return moved
  end

  function commands.DEL(...)
    for _, key in ipairs({...}) do
      check(key)
      server.call('HDEL', lives, key)
    end
    return server.call('DEL', ...)
  end

  function commands.PTTL(key)
    check(key)
    local life = server.call('HGET', lives, key)
    if server.call('EXISTS', key) == 0 then
      return -2
    end
    if not life then
      return -1
    end
    local since, ms = string.match(life, '^(%d+):(%d+)$')
    return tonumber(ms) - math.floor((tonumber(now) - tonumber(since)) / 1000)
  end

  local function call(name, ...)
    local command = commands[string.upper(name)]
    if not command then
      error('the script calls ' .. tostring(name) .. ', which the harness does not know')
    end
    return command(...)
  end

  -- A server that does not know an option of `SET` says so. The errors of this harness are not caught.
  local function pcall(...)
    catches = true
    local reply = call(...)
    catches = false
    return reply
  end

  return setmetatable({call = call, pcall = pcall}, {__index = server})
end)(redis)
