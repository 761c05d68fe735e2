-- The resources that a session subscribes to, for people. Atomic so that it is alive.
-- KEYS: 1 record, 2 subscriptions.
-- ARGV: 1 now or ''.
-- Returns: nil for no session; a string if the record cannot be read; else {digest, URI, ...}.
local session, unreadable = load(KEYS[1], clock(ARGV[1]))
if not session then return unreadable end
return redis.call('HGETALL', KEYS[2])
