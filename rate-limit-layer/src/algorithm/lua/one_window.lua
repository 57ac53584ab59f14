-- The time, the value of the key, and the arguments: the beginning of the programs that charge one window.
local call = redis.call
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local value = call('GET', KEYS[1])
local limit, window, cost = ARGV[1] + 0, ARGV[2] + 0, ARGV[3] + 0
local start = now - now % window

