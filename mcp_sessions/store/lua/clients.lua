-- Client names seen lately. A script so that every call has the same shape.
-- KEYS: 1 client names.
-- ARGV: 1 now or '' (not used).
-- Returns: names, most recent first.
return redis.call('ZREVRANGE', KEYS[1], 0, 99)
