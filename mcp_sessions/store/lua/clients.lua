-- Client names seen lately. A script so that every call has the same shape.
-- KEYS: 1 client names.
-- ARGV: 1 now or '' (not used).
-- Returns: {name, when last seen ms, name, when...}, the oldest first.
return redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
