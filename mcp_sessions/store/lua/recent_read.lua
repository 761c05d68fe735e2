-- What the last requests of a record did. Atomic so that the numbers belong to the requests.
-- KEYS: 1 the requests.
-- ARGV: 1 now or '' (not used), 2 how many requests are wanted, 3 how many are kept.
-- Returns: {how many were noted, how many failed, requests, newest first...}.
local found = redis.call('HMGET', KEYS[1], 'n', 'failed')
local number = tonumber(found[1] or 0)
local reply, names = {number, tonumber(found[2] or 0)}, {}
for back = 1, math.min(number, tonumber(ARGV[2]), tonumber(ARGV[3])) do
  names[back] = string.format('%.0f', (number - back) % ARGV[3])
end
if #names == 0 then return reply end
for n, line in ipairs(redis.call('HMGET', KEYS[1], unpack(names))) do reply[n + 2] = line end
return reply
