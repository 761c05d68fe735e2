-- Remember a resource subscription. Atomic so that the bound holds, and none outlives a session that ends.
-- KEYS: 1 record, 2 subscriptions.
-- ARGV: 1 now or '', 2 resource, 3 how many at most, 4 its URI for people.
-- Returns: nil for no session; a string if the record cannot be read; else {1 if it is remembered, else 0}.
local now = clock(ARGV[1])
local session, unreadable = load(KEYS[1], now)
if not session then return unreadable end
local known = redis.call('HEXISTS', KEYS[2], ARGV[2]) == 1
if not known and redis.call('HLEN', KEYS[2]) >= tonumber(ARGV[3]) then return {0} end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[4])
redis.call('PEXPIRE', KEYS[2], session.deadline - now)
return {1}
