-- Delete logs of one session, with their infos. A script so that every call has the same shape.
-- KEYS: logs and infos, of one slot.
-- ARGV: 1 now or '' (not used).
-- Returns: how many there were.
return redis.call('DEL', unpack(KEYS))
