-- Drop sessions that are gone from indexes, and remember for a while that they are: an update that comes late must not
-- bring them back. Atomic so that no reader sees half of it.
-- KEYS: 1 gone, then the indexes and their ends.
-- ARGV: 1 now or '', 2 how long it is remembered ms, then fingerprints.
-- Returns: how many entries were dropped.
local now, dropped = clock(ARGV[1]), 0
for i = 3, #ARGV do redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[i]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now - tonumber(ARGV[2])))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
for i = 2, #KEYS do dropped = dropped + redis.call('ZREM', KEYS[i], unpack(ARGV, 3)) end
return dropped
