-- End a session: delete its parts and leave a tombstone. Atomic because of several callers exactly one must get
-- the session, and nobody may write a part of it between the deletions.
-- KEYS: 1 record, 2 features, 3 state, 4 tombstone, then other parts. The logs of exchanges are not among them, since
-- their names are not known here: without the record nobody reads or writes them, and their TTL removes them.
-- The reason 'max_age' also gets a session that reached its deadline lately: nothing else finds it any more.
-- ARGV: 1 '=' and the principal, or '' for anybody's, 2 reason, 3 tombstone ms, 4 now (tests).
-- Returns: nil for a stranger or no session; a string if the record cannot be read; else {record, 0, features}.
local now = clock(ARGV[4])
local session, unreadable = load(KEYS[1], ARGV[2] == 'max_age' and now - OVERDUE or now)
if not session then return unreadable end
if ARGV[2] == 'max_age' and session.expires < session.deadline then return nil end
if ARGV[1] ~= '' and ARGV[1] ~= '=' .. session.principal then return nil end
local ended = reply(text_of(session), 0, session, KEYS[2])
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], unpack(KEYS, 5))
redis.call('SET', KEYS[4], ARGV[2], 'PX', ARGV[3])
return ended
