-- One request of a session: load, check the owner, slide, count, remember the call.
-- Atomic because a session that ends between the reading and the writing must not come back.
-- KEYS: 1 record, 2 features, 3 state.
-- ARGV: 1 principal, 2 idle ms, 3 call or '', 4 'i' if initialized now or '', 5 index interval ms, 6 now (tests).
-- Returns: nil for a stranger or no session; a string if the record cannot be read; else {record, due, features}.
local now = clock(ARGV[6])
local session, unreadable = load(KEYS[1], now)
if not session then return unreadable end
if session.principal ~= ARGV[1] then return nil end
local interval = tonumber(ARGV[5])
if not is(session, 'a') then
  mark(session, 'a')
  interval = 0
end
if ARGV[4] ~= '' then mark(session, ARGV[4]) end
if ARGV[3] ~= '' then session.call = ARGV[3] end
session.requests = session.requests + 1
return slide(session, now, tonumber(ARGV[2]), interval)
