-- Make the log of an exchange, claimed by the node that runs it.
-- Atomic so that no log is left behind by a session that ends meanwhile.
-- KEYS: 1 record, 2 log, 3 info.
-- ARGV: 1 now or '', 2 node, 3 request id, 4 ttl ms.
-- Returns: nil for no session; a string if the record cannot be read; else {node, token} as at first.
local now = clock(ARGV[1])
local session, unreadable = load(KEYS[1], now)
if not session then return unreadable end
local stream = stream_of() or new_stream(ARGV[2], ARGV[3], ARGV[4])
live(stream, session, now)
return {stream.origin, 1}
