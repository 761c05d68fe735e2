-- Read what follows a position, for the connection that delivers the stream. Atomic so that only the newest claim reads,
-- and what one connection delivered is not delivered by the next.
-- KEYS: 1 record, 2 log, 3 info.
-- ARGV: 1 now or '', 2 node, 3 token, 4 after which position, 5 bytes at most (one event is always read).
-- Returns: nil for no session or no stream; a string if the record cannot be read; else
--          {1 if this connection delivers, 1 if nothing follows, {position, payload, position, payload...}, node, token
--          of the connection that delivers}.
local CHUNK = 32
local session, unreadable = load(KEYS[1], clock(ARGV[1]))
if not session then return unreadable end
local stream = stream_of()
if not stream then return nil end
local token, position, left, events = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), {}
if token > stream.issued then
  -- The server has lost this claim: tokens are never given twice, so it is the newest.
  if stream.origin == '' and stream.token > 0 then wait_too(stream) end
  redis.call('HSET', KEYS[3], 'node', ARGV[2], 'token', whole(token), 'from', 0)
  stream.node, stream.token, stream.from = ARGV[2], token, 0
end
if stream.token ~= token then return {0, 0, {}, stream.node, stream.token} end
if stream.origin == '' and position > stream.last then
  -- It has lost messages that this connection delivered: new ones get positions beyond them.
  redis.call('HSET', KEYS[3], 'last', whole(position), 'delivered', whole(position))
  stream.last, stream.delivered = position, position
end
position = math.max(position, stream.from)

-- Whether there may be more, and it may fit.
local function take(chunk)
  for _, event in ipairs(chunk) do
    left = left - #event[2][2]
    if left < 0 and #events > 0 then return false end
    position = tonumber(string.match(event[1], '^%d+'))
    events[#events + 1] = position
    events[#events + 1] = event[2][2]
  end
  return #chunk == CHUNK
end

local function chunk_after()
  return redis.call('XRANGE', KEYS[2], string.format('(%.0f-0', position), '+', 'COUNT', CHUNK)
end

while take(chunk_after()) do end
if stream.origin == '' and #events > 0 and position > stream.delivered then
  redis.call('HSET', KEYS[3], 'delivered', whole(position))
end
return {1, (stream.ended ~= '' and position >= stream.last) and 1 or 0, events, stream.node, token}
