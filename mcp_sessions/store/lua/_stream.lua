-- Put before the scripts that work on one stream. Events have one field, `d`, and their position as id: 1-0, 2-0, 3-0...
-- for an exchange, whose node counts them. The positions of a standalone stream, and all tokens, are microseconds since
-- the epoch, or one more than the last if that is later: a server that lost data gives none of them a second time.
-- The info lives as long as the log. That of the standalone stream has no origin.
-- KEYS: 1 record, 2 log, 3 info.
local ANSWERED, ORPHAN = 'a', 'o'

-- What is known about the stream; nil if there is none. `token` is that of the connection that delivers, `issued` the
-- newest ever given, `from` the position that a connection that got the stream back may not go below.
local function stream_of()
  local values = redis.call('HMGET', KEYS[3], 'last', 'bytes', 'ended', 'node', 'token', 'origin', 'ttl', 'delivered',
    'issued', 'from', 'waiting')
  if not values[1] then return nil end
  local token = tonumber(values[5])
  return {
    last = tonumber(values[1]), bytes = tonumber(values[2]), ended = values[3], node = values[4], token = token,
    origin = values[6], ttl = tonumber(values[7]), delivered = tonumber(values[8]),
    issued = math.max(token, tonumber(values[9] or 0)), from = tonumber(values[10] or 0), waiting = values[11] or '',
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

-- A number that no state of the server had before.
local function after(last, now)
  return math.max(last + 1, now * 1000)
end

local function whole(number)
  return string.format('%.0f', number)
end

-- Keep the stream for its TTL from now on, never past the session's deadline.
local function live(stream, session, now)
  local left = math.min(stream.ttl, session.deadline - now)
  redis.call('PEXPIRE', KEYS[2], left)
  redis.call('PEXPIRE', KEYS[3], left)
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
  redis.call('HSET', KEYS[3], 'last', whole(stream.last), 'bytes', whole(stream.bytes), 'ended', stream.ended, 'ttl', ttl)
end

-- The reply to an append: the last position, the claim (its token is 0 if nobody delivers), and whether the messages are
-- in the log (1) or were refused (0).
local function appended(stream, accepted)
  return {stream.last, stream.node, stream.token, accepted}
end
