-- A sign of life of work in flight or an open stream: slide without counting.
-- Atomic so that a session that ends between the reading and the writing does not come back.
-- KEYS: 1 record, 2 features, 3 state.
-- ARGV: 1 now or '', 2 idle ms, 3 index interval ms.
-- Returns: nil for no session; a string if the record cannot be read; else {record, due, features}.
local now = clock(ARGV[1])
local session, unreadable = load(KEYS[1], now)
if not session then return unreadable end
return slide(session, now, tonumber(ARGV[2]), tonumber(ARGV[3]), 1)
