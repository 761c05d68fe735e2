-- Write one session into the indexes of its namespace, unless a cap forbids it.
-- Atomic because sessions that are opened at the same moment must not exceed the cap together.
-- KEYS: 1 activity, 2 new, 3 client names, 4 principal, then client and protocol.
-- ARGV: 1 now or '', 2 fingerprint, 3 how long a member can matter ms, 4 first ms or '' if active, 5 client name,
--       6 how long a client name is remembered ms, 7 cap or '', 8 cap of the principal or ''.
-- Returns: 0 written, 1 the cap is reached, 2 the principal's cap is reached.
local now, keep, member = clock(ARGV[1]), tonumber(ARGV[3]), ARGV[2]
trim_new(KEYS[2], now, {KEYS[1], KEYS[4]})
for i = 1, #KEYS do
  if i ~= 2 and i ~= 3 then trim(KEYS[i], now, keep) end
end
if ARGV[7] ~= '' and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[7]) then return 1 end
if ARGV[8] ~= '' and redis.call('ZCARD', KEYS[4]) >= tonumber(ARGV[8]) then return 2 end
local score = string.format('%.0f', now)
for i = 1, #KEYS do
  if i ~= 2 and i ~= 3 then
    redis.call('ZADD', KEYS[i], 'GT', score, member)
    redis.call('PEXPIRE', KEYS[i], keep)
  end
end
if ARGV[4] == '' then
  redis.call('ZREM', KEYS[2], member)
else
  redis.call('ZADD', KEYS[2], string.format('%.0f', now + tonumber(ARGV[4])), member)
  redis.call('PEXPIRE', KEYS[2], keep)
end
redis.call('ZADD', KEYS[3], 'GT', score, ARGV[5])
redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -101)
redis.call('PEXPIRE', KEYS[3], ARGV[6])
return 0
