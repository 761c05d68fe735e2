-- Client names seen lately. A script, so that every call has one shape.
-- KEYS: 1 client names. ARGV: none.
-- Returns: names, most recent first.
return redis.call('ZREVRANGE', KEYS[1], 0, 99)
