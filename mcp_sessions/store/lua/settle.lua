-- A session that was opened again is as good as any other: its tools have put into its state what they need. Atomic so that
-- a session that ends between the reading and the writing does not come back.
-- KEYS: 1 record.
-- ARGV: 1 now or ''.
-- Returns: nil for no session; a string if the record cannot be read; else {1}.
local session, unreadable = load(KEYS[1], clock(ARGV[1]))
if not session then return unreadable end
session.flags = string.gsub(session.flags, 'r', '')
redis.call('SET', KEYS[1], text_of(session), 'KEEPTTL')
return {1}
