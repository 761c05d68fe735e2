-- A sign of life of work in flight or an open stream: slide without counting.
-- Atomic because a session that ends between the reading and the writing must not come back.
-- KEYS: 1 record, 2 features, 3 state.
-- ARGV: 1 idle ms, 2 index interval ms, 3 now (tests).
-- Returns: nil for no session; a string if the record cannot be read; else {record, due, features}.
local now = clock(ARGV[3])
local session, unreadable = load(KEYS[1], now)
if not session then return unreadable end
return slide(session, now, tonumber(ARGV[1]), tonumber(ARGV[2]), 1)
