-- Why a session was ended a while ago. A script so that every call has the same shape.
-- KEYS: 1 tombstone.
-- ARGV: 1 now or '' (not used).
-- Returns: the tombstone, or nil.
return redis.call('GET', KEYS[1])
