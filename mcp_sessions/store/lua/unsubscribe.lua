-- Forget a resource subscription. Atomic so that it is one of a session that is alive.
-- KEYS: 1 record, 2 subscriptions.
-- ARGV: 1 now or '', 2 resource.
-- Returns: nil for no session; a string if the record cannot be read; else {1 if it was remembered, else 0}.
local session, unreadable = load(KEYS[1], clock(ARGV[1]))
if not session then return unreadable end
return {redis.call('HDEL', KEYS[2], ARGV[2])}
