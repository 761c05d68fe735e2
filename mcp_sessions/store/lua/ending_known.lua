-- Whether an ending is remembered: it was begun, and is not finished. A script so that every call has the same shape.
-- KEYS: 1 endings.
-- ARGV: 1 now or '' (not used), 2 token.
-- Returns: what is to be ended, or nil.
return redis.call('HGET', KEYS[1], ARGV[2])
