-- Remember that a stream of an exchange ended, and name those that have to go: all but the newest, and all of them once
-- the session is over. Atomic because of two processes each name may be given to one only.
-- KEYS: 1 record, 2 names of ended streams by when they ended.
-- ARGV: 1 now (tests) or '', 2 name or '', 3 how many are kept.
-- Returns: the names that have to go.
local now = clock(ARGV[1])
local session = load(KEYS[1], now)
local kept = 0
if session then
  kept = tonumber(ARGV[3])
  if ARGV[2] ~= '' then
    redis.call('ZADD', KEYS[2], string.format('%.0f', now), ARGV[2])
    redis.call('PEXPIRE', KEYS[2], session.deadline - now)
  end
end
local surplus = redis.call('ZCARD', KEYS[2]) - kept
if surplus <= 0 then
  if not session and ARGV[2] ~= '' then return {ARGV[2]} end
  return {}
end
local names = redis.call('ZRANGE', KEYS[2], 0, surplus - 1)
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, surplus - 1)
if not session and ARGV[2] ~= '' then names[#names + 1] = ARGV[2] end
return names
