-- Write one session into the indexes of its namespace, unless a cap forbids it, or it is gone.
-- Atomic so that sessions that are opened at the same moment do not exceed the cap together.
-- KEYS: 1 gone, 2 client names, then each index with its ends: 3 activity, 5 principal, 7 client, 9 protocol.
-- ARGV: 1 now or '', 2 fingerprint, 3 last activity ms or '' for a new session, 4 how long a member can matter ms, 5 how
--       long after its last activity it ends ms, if that is before its idle TTL is over, else '', 6 client name, 7 how
--       long a client name is remembered ms, 8 cap or '', 9 cap of the principal or ''.
-- Returns: nil if it was written, or is gone; else {1 for the cap or 2 for the principal's, the key of the full index,
--          now}.
local now, member, keep = clock(ARGV[1]), ARGV[2], tonumber(ARGV[4])
local active, after = tonumber(ARGV[3]) or now, tonumber(ARGV[5])
for i = 3, #KEYS, 2 do
  trim(KEYS[i], now, keep)
  -- Only for new sessions, which count: a session's place is updated much more often.
  if ARGV[3] == '' then trim_ends(KEYS[i], KEYS[i + 1], now) end
end
if ARGV[8] ~= '' and redis.call('ZCARD', KEYS[3]) >= tonumber(ARGV[8]) then return {1, KEYS[3], now} end
if ARGV[9] ~= '' and redis.call('ZCARD', KEYS[5]) >= tonumber(ARGV[9]) then return {2, KEYS[5], now} end
if ARGV[3] == '' then
  redis.call('ZREM', KEYS[1], member)
elseif redis.call('ZSCORE', KEYS[1], member) then
  return nil
end
local score = string.format('%.0f', active)
for i = 3, #KEYS, 2 do
  redis.call('ZADD', KEYS[i], 'GT', score, member)
  live(KEYS[i], after or keep)
  if after then
    redis.call('ZADD', KEYS[i + 1], string.format('%.0f', active + after), member)
    live(KEYS[i + 1], after)
  else
    redis.call('ZREM', KEYS[i + 1], member)
  end
end
redis.call('ZADD', KEYS[2], 'GT', score, ARGV[6])
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -101)
redis.call('PEXPIRE', KEYS[2], ARGV[7])
return nil
