-- Sessions were ended and that was announced. A script so that every call has the same shape.
-- KEYS: 1 endings.
-- ARGV: 1 now or '' (not used), 2 token.
-- Returns: 1 if it was remembered, else 0.
return redis.call('HDEL', KEYS[1], ARGV[2])
