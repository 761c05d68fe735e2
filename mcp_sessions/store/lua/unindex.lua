-- Drop records that are gone from indexes of one shard, and remember for a while that they are: an update that comes late
-- must not bring them back. One that was made again since then stays. Atomic so that no reader sees half of it.
-- KEYS: 1 gone, then the indexes, and perhaps ends and fingerprints.
-- ARGV: 1 now or '', 2 how long it is remembered ms, then for each: fingerprint, its last activity ms.
-- Returns: how many entries were dropped.
local now, gone, dropped = clock(ARGV[1]), {}, 0
for i = 3, #ARGV, 2 do
  if tonumber(redis.call('ZSCORE', KEYS[2], ARGV[i]) or 0) <= tonumber(ARGV[i + 1]) then
    redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[i])
    gone[#gone + 1] = ARGV[i]
  end
end
-- What is remembered for long enough, a few at a time, but more than a run adds: after thousands of ends, all of it is due
-- at once.
local due = string.format('(%.0f', now - tonumber(ARGV[2]))
local old = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', due, 'LIMIT', 0, 100)
if #old > 0 then redis.call('ZREM', KEYS[1], unpack(old)) end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
if #gone == 0 then return 0 end
for i = 2, #KEYS do dropped = dropped + redis.call('ZREM', KEYS[i], unpack(gone)) end
return dropped
