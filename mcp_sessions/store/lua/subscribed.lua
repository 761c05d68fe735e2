-- Whether a session subscribes to a resource. Atomic so that it is alive.
-- KEYS: 1 record, 2 subscriptions.
-- ARGV: 1 now or '', 2 resource.
-- Returns: nil for no session; a string if the record cannot be read; else {1 or 0}.
local session, unreadable = load(KEYS[1], clock(ARGV[1]))
if not session then return unreadable end
return {redis.call('HEXISTS', KEYS[2], ARGV[2])}
