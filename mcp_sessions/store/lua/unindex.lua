-- Drop sessions that are gone from indexes. Atomic so that no reader sees half of it.
-- KEYS: the indexes.
-- ARGV: 1 now or '' (not used), then fingerprints.
-- Returns: how many entries were dropped.
local dropped = 0
for _, index in ipairs(KEYS) do dropped = dropped + redis.call('ZREM', index, unpack(ARGV, 2)) end
return dropped
