-- A sign of life of work in flight or an open stream, which counts no request; or requests that were counted elsewhere.
-- Atomic so that a session that ends between the reading and the writing does not come back.
-- KEYS: 1 record, 2 features, 3 state.
-- ARGV: 1 now or '', 2 idle ms, 3 index interval ms, 4 requests, 5 the last of them or ''.
-- Returns: nil for no session; a string if the record cannot be read; else {record, due, features}.
local now = clock(ARGV[1])
local session, unreadable = load(KEYS[1], now)
if not session then return unreadable end
session.requests = session.requests + tonumber(ARGV[4])
if ARGV[5] ~= '' then session.call = ARGV[5] end
return slide(session, now, tonumber(ARGV[2]), tonumber(ARGV[3]), 1)
