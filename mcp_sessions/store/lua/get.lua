-- One session as it is. Atomic so that the record and its features are of the same moment.
-- KEYS: 1 record, 2 features.
-- ARGV: 1 now or ''.
-- Returns: nil for no session; a string if the record cannot be read; else {record, 0, features}.
local session, unreadable = load(KEYS[1], clock(ARGV[1]))
if not session then return unreadable end
return reply(text_of(session), 0, session, KEYS[2])
