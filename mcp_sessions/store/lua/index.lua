-- Write one session into the indexes of its namespace, unless a cap forbids it.
-- Atomic so that sessions that are opened at the same moment do not exceed the cap together.
-- KEYS: 1 activity, 2 new, 3 client names, 4 principal, then client and protocol.
-- ARGV: 1 now or '', 2 fingerprint, 3 last activity ms or '' for now, 4 how long a member can matter ms, 5 first ms or ''
--       if active, 6 client name, 7 how long a client name is remembered ms, 8 cap or '', 9 cap of the principal or ''.
-- Returns: nil if it was written; else {1 for the cap or 2 for the principal's, the key of the full index, now}.
local now, member, keep = clock(ARGV[1]), ARGV[2], ARGV[4]
local active = tonumber(ARGV[3]) or now
trim_new(KEYS[2], now, {KEYS[1], KEYS[4]})
for i = 1, #KEYS do
  if i ~= 2 and i ~= 3 then trim(KEYS[i], now, keep) end
end
if ARGV[8] ~= '' and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[8]) then return {1, KEYS[1], now} end
if ARGV[9] ~= '' and redis.call('ZCARD', KEYS[4]) >= tonumber(ARGV[9]) then return {2, KEYS[4], now} end
local score = string.format('%.0f', active)
for i = 1, #KEYS do
  if i ~= 2 and i ~= 3 then
    redis.call('ZADD', KEYS[i], 'GT', score, member)
    redis.call('PEXPIRE', KEYS[i], keep)
  end
end
if ARGV[5] == '' then
  redis.call('ZREM', KEYS[2], member)
else
  redis.call('ZADD', KEYS[2], string.format('%.0f', active + tonumber(ARGV[5])), member)
  redis.call('PEXPIRE', KEYS[2], keep)
end
redis.call('ZADD', KEYS[3], 'GT', score, ARGV[6])
redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -101)
redis.call('PEXPIRE', KEYS[3], ARGV[7])
return nil
