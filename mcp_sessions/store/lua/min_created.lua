-- The moment before which no session counts, and the time. Whoever asks says which moment it knows, so that a server that
-- has lost it learns it again. Atomic so that the moment never goes back.
-- KEYS: 1 min-created.
-- ARGV: 1 now or '', 2 the moment that the caller knows ms, 0 if none, or 'now' to make it this moment, 3 how long it is
--       kept ms, 4 for 'now': which moment it is at least ms, where the clock was set back.
-- Returns: {the moment ms or 0, now ms}.
local now = clock(ARGV[1])
local before = tonumber(redis.call('GET', KEYS[1]) or '0')
-- If the clock was set back, what was opened since then was opened at the moment that is known.
local moment = ARGV[2] == 'now' and math.max(now, before + 1, tonumber(ARGV[4])) or math.max(tonumber(ARGV[2]), before)
-- Not written without need: a server that is full, or lacks its replicas, refuses that, and answers who only asks.
if moment > before then
  redis.call('SET', KEYS[1], string.format('%.0f', moment), 'PX', ARGV[3])
elseif moment > 0 and redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) / 2 then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return {moment, now}
