-- Take over the delivery of a stream. Atomic so that of two concurrent claims only the later one is valid. The connection
-- that delivered a standalone stream waits from now on; that of an exchange's stream ends.
-- KEYS: 1 record, 2 log, 3 info.
-- ARGV: 1 now or '', 2 node, 3 after which position or '', 4 '1' if the stream is made when there is none,
--       5 ttl ms.
-- Returns: nil for no session or no stream; a string if the record cannot be read;
--          else {node, token, node before, token before, origin, where to go on, request id}.
local now = clock(ARGV[1])
local session, unreadable = load(KEYS[1], now)
if not session then return unreadable end
local stream = stream_of()
if not stream then
  if ARGV[4] == '' then return nil end
  stream = new_stream('', '', ARGV[5])
end
local token, position = after(stream.issued, now), tonumber(ARGV[3]) or stream.delivered
stream.ttl = tonumber(ARGV[5])
redis.call('HSET', KEYS[3], 'node', ARGV[2], 'token', whole(token), 'ttl', ARGV[5])
if stream.origin == '' then
  -- A client that names a position that was not reached would wait for it. An exchange's node may have sent what it
  -- could not log yet: those positions count.
  position = math.min(position, stream.last)
  if stream.from > 0 then redis.call('HSET', KEYS[3], 'from', 0) end
  if stream.token > 0 then wait_too(stream) end
end
live(stream, session, now)
local request = redis.call('HGET', KEYS[3], 'request')
return {ARGV[2], token, stream.node, stream.token, stream.origin, position, request}
