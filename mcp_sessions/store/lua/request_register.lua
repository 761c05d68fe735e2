-- Register that a node waits for the client's response to a request.
-- Atomic so that no registration is left behind by a session that ends meanwhile.
-- KEYS: 1 record, 2 request.
-- ARGV: 1 now or '', 2 node, 3 how long it is kept ms.
-- Returns: nil for no session; a string if the record cannot be read; else {}.
local now = clock(ARGV[1])
local session, unreadable = load(KEYS[1], now)
if not session then return unreadable end
redis.call('HSET', KEYS[2], 'node', ARGV[2])
redis.call('PEXPIRE', KEYS[2], math.min(tonumber(ARGV[3]), session.deadline - now))
return {}
