-- One session as it is. Atomic because the record and its features must be of one moment.
-- KEYS: 1 record, 2 features.
-- ARGV: 1 now (tests).
-- Returns: nil for no session; a string if the record cannot be read; else {record, 0, features}.
local session, unreadable = load(KEYS[1], clock(ARGV[1]))
if not session then return unreadable end
return reply(text_of(session), 0, session, KEYS[2])
