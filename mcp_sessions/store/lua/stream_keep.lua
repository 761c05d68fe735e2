-- A sign of life of a stream: it runs, or is being delivered. Atomic so that a stream that is gone does not come back.
-- KEYS: 1 record, 2 log, 3 info.
-- ARGV: 1 now or ''.
-- Returns: nil for no session or no stream; a string if the record cannot be read; else {}.
local now = clock(ARGV[1])
local session, unreadable = load(KEYS[1], now)
if not session then return unreadable end
local stream = stream_of()
if not stream then return nil end
live(stream, session, now)
return {}
