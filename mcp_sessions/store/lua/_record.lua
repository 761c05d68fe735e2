-- Put before every script that reads a session. The record is four lines of ASCII: numbers and flags, the last
-- call, the principal, the handshake. The numbers are the format's version, when the session was created, then
-- relative to that, to be short: deadline, last activity, expiry and last index update; then the requests.
-- Flags: a active, i initialized, f has features, s has state, r was opened again by its id.
local PATTERN = '^1 (%d+) (%d+) (%-?%d+) (%-?%d+) (%-?%d+) (%d+) %-(%l*)\n([^\n]*)\n([^\n]*)\n(%[[^\n]*%])$'

-- For how many milliseconds a record stays after its end: meanwhile exactly one node ends it, with what it held.
local OVERDUE = 15000

-- The store's clock in milliseconds, unless tests inject theirs.
local function clock(injected)
  if injected and injected ~= '' then return tonumber(injected) end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The session of a key, with its text. nil if there is none, it is over, or (with the text) it cannot be read.
local function load(key, now)
  local text = redis.call('GET', key)
  if not text then return nil end
  local created, deadline, last, expires, indexed, requests, flags, call, principal, handshake =
    string.match(text, PATTERN)
  if not created then return nil, text end
  created = tonumber(created)
  if now >= created + math.min(expires, deadline) then return nil end
  return {
    created = created, deadline = created + deadline, last = created + last, expires = created + expires,
    indexed = created + indexed, requests = tonumber(requests), flags = flags, call = call,
    principal = principal, handshake = handshake, text = text,
  }
end

local function text_of(session)
  local created = session.created
  return string.format('1 %.0f %.0f %.0f %.0f %.0f %.0f -%s\n%s\n%s\n%s', created, session.deadline - created,
    session.last - created, session.expires - created, session.indexed - created, session.requests,
    session.flags, session.call, session.principal, session.handshake)
end

-- Write a record; its text.
local function keep_record(key, session, now)
  local text = text_of(session)
  redis.call('SET', key, text, 'PX', string.format('%.0f', session.expires - now + OVERDUE))
  return text
end

local function is(session, flag)
  return string.find(session.flags, flag, 1, true) ~= nil
end

local function mark(session, flag)
  if not is(session, flag) then session.flags = session.flags .. flag end
end

-- What a process gets: the record, whether its indexes are due (1) or not (0), then its features.
local function reply(text, due, session, features)
  if not is(session, 'f') then return {text, due} end
  return {text, due, redis.call('HGETALL', features)}
end
