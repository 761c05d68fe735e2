-- One session as it is. Atomic so that the record and its features are of the same moment.
-- KEYS: 1 record, 2 features.
-- ARGV: 1 now or ''.
-- Returns: nil for no session; 0 for one that is over, and not swept yet; a string if the record cannot be read; else
--          {record, 0, features}.
local session, unreadable = load(KEYS[1], clock(ARGV[1]))
if session then return reply(session.text, 0, session, KEYS[2]) end
if not unreadable and redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
return unreadable
