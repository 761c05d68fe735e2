-- Remember that a stream of an exchange ended, and name those that have to go: the oldest while there are too many or
-- they are too large together, and all of them once the session is over. Atomic so that each name is given to one node
-- only.
-- KEYS: 1 record, 2 names of ended streams, by the bytes of all that ended up to and with each; 3 info of this one.
-- ARGV: 1 now or '', 2 name, 3 how many are kept, 4 how many bytes, 5 how long their logs are kept ms.
-- Returns: the names that have to go.
local now, name = clock(ARGV[1]), ARGV[2]
local session = load(KEYS[1], now)
if not session then
  local names = redis.call('ZRANGE', KEYS[2], 0, -1)
  redis.call('DEL', KEYS[2])
  names[#names + 1] = name
  return names
end
local total = tonumber(redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')[2] or 0)
if not redis.call('ZSCORE', KEYS[2], name) then
  total = total + math.max(1, tonumber(redis.call('HGET', KEYS[3], 'bytes') or 0))
  redis.call('ZADD', KEYS[2], string.format('%.0f', total), name)
  redis.call('PEXPIRE', KEYS[2], math.min(tonumber(ARGV[5]), session.deadline - now))
end
local surplus = math.max(redis.call('ZCARD', KEYS[2]) - tonumber(ARGV[3]),
  redis.call('ZCOUNT', KEYS[2], '-inf', string.format('%.0f', total - tonumber(ARGV[4]))))
if surplus <= 0 then return {} end
local names = redis.call('ZRANGE', KEYS[2], 0, surplus - 1)
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, surplus - 1)
return names
