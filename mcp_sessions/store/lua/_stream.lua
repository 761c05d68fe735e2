-- Put before the scripts that work on one stream. Events have the ids 1-0, 2-0, 3-0... and one field, `d`. The info
-- lives as long as the log; that of the standalone stream, which has no origin, until its session's deadline, because
-- its positions go on when the log is long gone.
-- KEYS: 1 record, 2 log, 3 info.
local ANSWERED, ORPHAN = 'a', 'o'

-- What is known about the stream; nil if there is none.
local function stream_of()
  local values = redis.call('HMGET', KEYS[3], 'last', 'bytes', 'ended', 'node', 'token', 'origin', 'ttl', 'delivered')
  if not values[1] then return nil end
  return {
    last = tonumber(values[1]), bytes = tonumber(values[2]), ended = values[3], node = values[4],
    token = tonumber(values[5]), origin = values[6], ttl = tonumber(values[7]), delivered = tonumber(values[8]),
  }
end

-- A new stream. A log without its info belongs to no stream. The write that needs memory comes first: a full Redis
-- refuses a script only at its first write.
local function new_stream(origin, request, ttl)
  redis.call('HSET', KEYS[3], 'last', 0, 'bytes', 0, 'ended', '', 'node', origin, 'token', origin == '' and 0 or 1,
    'origin', origin, 'ttl', ttl, 'delivered', 0, 'request', request)
  redis.call('DEL', KEYS[2])
  return stream_of()
end

-- Keep the stream for its TTL from now on, never past the session's deadline.
local function live(stream, session, now)
  local most = session.deadline - now
  local left = math.min(stream.ttl, most)
  redis.call('PEXPIRE', KEYS[2], left)
  redis.call('PEXPIRE', KEYS[3], stream.origin == '' and most or left)
end

-- Drop events from the old end until the bounds hold; the newest one stays, a response among others.
local function trim(stream, max_events, max_bytes)
  local count = redis.call('XLEN', KEYS[2])
  while count > 1 and (count > max_events or stream.bytes > max_bytes) do
    local oldest = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
    redis.call('XDEL', KEYS[2], oldest[1])
    stream.bytes, count = stream.bytes - #oldest[2][2], count - 1
  end
end

-- Append the payloads ARGV[from]... as the positions from `first` on; those that exist already are skipped.
local function add(stream, first, from)
  if redis.call('EXISTS', KEYS[2]) == 0 then stream.bytes = 0 end
  for i = from, #ARGV do
    local position = first + i - from
    if position > stream.last then
      redis.call('XADD', KEYS[2], string.format('%.0f-0', position), 'd', ARGV[i])
      stream.last, stream.bytes = position, stream.bytes + #ARGV[i]
    end
  end
end

local function save(stream, ttl)
  stream.ttl = tonumber(ttl)
  redis.call('HSET', KEYS[3], 'last', string.format('%.0f', stream.last), 'bytes', string.format('%.0f', stream.bytes),
    'ended', stream.ended, 'ttl', ttl)
end

-- The reply to an append: the last position, and the claim (its token is 0 before the first one).
local function appended(stream)
  return {stream.last, stream.node, stream.token}
end
