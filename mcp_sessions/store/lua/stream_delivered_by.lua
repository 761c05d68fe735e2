-- Who delivers a stream now. Atomic so that the session is alive.
-- KEYS: 1 record, 2 info.
-- ARGV: 1 now or ''.
-- Returns: nil for no session; a string if the record cannot be read; else {node, token}, both empty if nobody ever did.
local session, unreadable = load(KEYS[1], clock(ARGV[1]))
if not session then return unreadable end
local claim = redis.call('HMGET', KEYS[2], 'node', 'token')
return {claim[1] or '', tonumber(claim[2] or 0)}
