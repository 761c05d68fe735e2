-- End a session: delete its parts and leave a tombstone. Atomic so that exactly one of several callers gets the session,
-- and nobody writes a part of it between the deletions. The reason 'max_age' gets only a session that reached its
-- deadline lately, which nothing else finds any more.
-- KEYS: 1 record, 2 features, 3 state, 4 tombstone, then other parts.
-- ARGV: 1 now or '', 2 '=' and the principal, or '' for anybody's, 3 reason, 4 tombstone ms.
-- Returns: nil for a stranger or no session; a string if the record cannot be read; else {record, 0, features}.
local now, aged = clock(ARGV[1]), ARGV[3] == 'max_age'
local session, unreadable = load(KEYS[1], aged and now - OVERDUE or now)
if not session then return unreadable end
if aged and session.expires < session.deadline then return nil end
if ARGV[2] ~= '' and ARGV[2] ~= '=' .. session.principal then return nil end
local ended = reply(text_of(session), 0, session, KEYS[2])
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], unpack(KEYS, 5))
redis.call('SET', KEYS[4], ARGV[3], 'PX', ARGV[4])
return ended
