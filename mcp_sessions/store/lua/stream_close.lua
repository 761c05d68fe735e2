-- Append the response of an exchange whose node is dead. Atomic so that, if that node is alive after all, only one of its
-- answer and this one is in the log.
-- KEYS: 1 record, 2 log, 3 info.
-- ARGV: 1 now or '', 2 events at most, 3 bytes at most, 4 ttl ms, 5 payload.
-- Returns: nil for no session or no stream; a string if the record cannot be read; else {last position, node, token}.
local now = clock(ARGV[1])
local session, unreadable = load(KEYS[1], now)
if not session then return unreadable end
local stream = stream_of()
if not stream then return nil end
if stream.ended == '' then
  add(stream, stream.last + 1, 5)
  stream.ended = ORPHAN
  trim(stream, tonumber(ARGV[2]), tonumber(ARGV[3]))
  save(stream, ARGV[4])
  live(stream, session, now)
end
return appended(stream)
