-- Append the response of an exchange whose node is dead, or that was run again. Atomic so that, if that node is alive
-- after all, only one of its answer and this one is in the log, and of two nodes that run it again one answers.
-- KEYS: 1 record, 2 log, 3 info.
-- ARGV: 1 now or '', 2 the node that ran it last, 3 after which position, 4 events at most, 5 bytes at most, 6 ttl ms,
--       7 payload.
-- Returns: nil for no session or no stream; a string if the record cannot be read;
--          else {node that delivers, token, the node that runs the exchange, '' if the stream has ended}.
local now = clock(ARGV[1])
local session, unreadable = load(KEYS[1], now)
if not session then return unreadable end
local stream = stream_of()
if not stream then return nil end
if stream.ended == '' and stream.origin == ARGV[2] then
  -- The dead node may have sent messages that it could not log.
  add(stream, math.max(stream.last, tonumber(ARGV[3])) + 1, 7)
  stream.ended = ORPHAN
  trim(stream, tonumber(ARGV[4]), tonumber(ARGV[5]))
  save(stream, ARGV[6])
  live(stream, session, now)
end
return {stream.node, stream.token, stream.ended == '' and stream.origin or ''}
