-- Append messages of an exchange to its log. Atomic so that a repeated call appends nothing twice, the log never has both
-- an answer and an orphan's end, and nothing is written once the session has ended.
-- KEYS: 1 record, 2 log, 3 info.
-- ARGV: 1 now or '', 2 first position, 3 '1' if the response is among them, 4 events at most, 5 bytes at most,
--       6 ttl ms, then payloads.
-- Returns: nil for no session, no stream or an ended one; a string if the record cannot be read;
--          else {last position, node that delivers, token}.
local now = clock(ARGV[1])
local session, unreadable = load(KEYS[1], now)
if not session then return unreadable end
local stream, first = stream_of(), tonumber(ARGV[2])
if not stream or stream.ended == ORPHAN then return nil end
if stream.ended == ANSWERED then
  if first + #ARGV - 7 > stream.last then return nil end
  return appended(stream)
end
add(stream, first, 7)
if ARGV[3] ~= '' then stream.ended = ANSWERED end
trim(stream, tonumber(ARGV[4]), tonumber(ARGV[5]))
save(stream, ARGV[6])
live(stream, session, now)
return appended(stream)
