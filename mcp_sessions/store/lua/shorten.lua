-- Let a tombstone go earlier: it is remembered elsewhere. A script so that every call has the same shape.
-- KEYS: 1 tombstone.
-- ARGV: 1 now or '' (not used), 2 after how long ms.
-- Returns: nothing.
if redis.call('PTTL', KEYS[1]) > tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
