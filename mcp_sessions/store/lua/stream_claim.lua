-- Take over the delivery of a stream. Atomic so that of two concurrent claims only the later one is valid.
-- KEYS: 1 record, 2 log, 3 info.
-- ARGV: 1 now or '', 2 node, 3 after which position or '', 4 '1' if the stream is made when there is none.
-- Returns: nil for no session or no stream; a string if the record cannot be read;
--          else {node, token, node before, token before, origin, where to go on, request id}.
local now = clock(ARGV[1])
local session, unreadable = load(KEYS[1], now)
if not session then return unreadable end
local stream = stream_of()
if not stream then
  if ARGV[4] == '' then return nil end
  stream = new_stream('', '', 0)
end
local after = math.min(tonumber(ARGV[3]) or stream.delivered, stream.last)
redis.call('HSET', KEYS[3], 'node', ARGV[2], 'token', stream.token + 1)
live(stream, session, now)
local request = redis.call('HGET', KEYS[3], 'request')
return {ARGV[2], stream.token + 1, stream.node, stream.token, stream.origin, after, request}
