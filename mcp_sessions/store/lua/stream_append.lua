-- Append messages of an exchange to its log. Atomic so that a repeated call appends nothing twice, the log never has both
-- an answer and an orphan's end, only the node that runs the exchange writes, and nothing is written once the session
-- has ended.
-- KEYS: 1 record, 2 log, 3 info.
-- ARGV: 1 now or '', 2 node, 3 first position, 4 '1' if the response is among them, 5 events at most, 6 bytes at most,
--       7 ttl ms, then payloads.
-- Returns: nil for no session or no stream; a string if the record cannot be read;
--          else {last position, node that delivers, token, 1, or 0 if another node has ended the stream or will}.
local now = clock(ARGV[1])
local session, unreadable = load(KEYS[1], now)
if not session then return unreadable end
local stream, first = stream_of(), tonumber(ARGV[3])
if not stream then return nil end
if stream.ended == ORPHAN or stream.origin ~= ARGV[2] then return appended(stream, 0) end
if stream.ended == ANSWERED then return appended(stream, first + #ARGV - 8 > stream.last and 0 or 1) end
add(stream, first, 8)
if ARGV[4] ~= '' then stream.ended = ANSWERED end
trim(stream, tonumber(ARGV[5]), tonumber(ARGV[6]))
save(stream, ARGV[7])
live(stream, session, now)
return appended(stream, 1)
