-- Read what follows a position, for the node that delivers the stream. Atomic so that only the newest claim reads, and
-- what one node delivered is not delivered by the next.
-- KEYS: 1 record, 2 log, 3 info.
-- ARGV: 1 now or '', 2 token, 3 after which position, 4 bytes at most (one event is always read).
-- Returns: nil for no session or no stream; a string if the record cannot be read; else
--          {1 if the claim is valid, 1 if nothing follows, {position, payload, position, payload...}}.
local CHUNK = 32
local session, unreadable = load(KEYS[1], clock(ARGV[1]))
if not session then return unreadable end
local stream = stream_of()
if not stream then return nil end
if stream.token ~= tonumber(ARGV[2]) then return {0, 0, {}} end
local position, left, events = tonumber(ARGV[3]), tonumber(ARGV[4]), {}
-- A reader that is ahead of the log: the server has lost data, and gives these positions to new messages.
if position > stream.last then position = stream.delivered end

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
  redis.call('HSET', KEYS[3], 'delivered', string.format('%.0f', position))
end
return {1, (stream.ended ~= '' and position >= stream.last) and 1 or 0, events}
