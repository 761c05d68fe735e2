-- Whether a session was ended a while ago. A script so that every call has the same shape.
-- KEYS: 1 tombstone.
-- ARGV: 1 now or '' (not used).
-- Returns: 1 or 0.
return redis.call('EXISTS', KEYS[1])
