-- A connection does not deliver the standalone stream any more, nor wait for it. If it delivered until now, the newest of
-- those that wait does, from the last event on that was delivered to anybody. Atomic so that nobody who has claimed the
-- stream meanwhile loses it.
-- KEYS: 1 record, 2 log, 3 info.
-- ARGV: 1 now or '', 2 token of the connection.
-- Returns: nil for no session or no stream; a string if the record cannot be read;
--          else {node, token} of the connection that delivers now; '' and 0 if none does.
local now = clock(ARGV[1])
local session, unreadable = load(KEYS[1], now)
if not session then return unreadable end
local stream, token = stream_of(), tonumber(ARGV[2])
if not stream then return nil end
live(stream, session, now)
if stream.token ~= token then
  redis.call('HSET', KEYS[3], 'waiting', waiting_without(stream.waiting, token))
  return {stream.node, stream.token}
end
local node, next_token, rest = newest(stream.waiting)
redis.call('HSET', KEYS[3], 'node', node or '', 'token', next_token or 0, 'waiting', rest or '',
  'from', whole(stream.delivered), 'issued', whole(stream.issued))
return {node or '', tonumber(next_token or 0)}
