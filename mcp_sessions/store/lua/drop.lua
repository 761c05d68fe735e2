-- Delete keys of one session.
-- KEYS: any of one slot.
-- Returns: how many there were.
return redis.call('DEL', unpack(KEYS))
