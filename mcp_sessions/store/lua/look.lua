-- Look at sessions that a node holds, and at streams on which nothing seems to happen. One run for many, because a node
-- looks at all that it holds, often, and almost always in vain. The beginning of a record is enough: see `load`. Atomic so
-- that a record and what is said of its stream are of one moment.
-- KEYS: for each 1 record, 2 info of a stream, or of none.
-- ARGV: 1 now or '', then for each 1 token of the connection that delivers the stream, as far as is known, or '' to compare
--       nothing; 2 the position that this connection has reached, or '' if it does not deliver; 3 when the first session
--       was opened that counts, ms.
-- Returns: for each nil for no session; ms since its last activity if there is nothing else to say; else {that, ms until
--          its deadline, 1 if there is something to read, else 0, 1 if the session does not count any more, else 0}.
local now = clock(ARGV[1])
-- A deadline is near when a node may not look again before: it looks every four seconds.
local NEAR = 10000

-- Whether another connection delivers, the last message is not at the position, or none follows any more.
local function changed(info, token, position)
  local stream = redis.pcall('HMGET', info, 'token', 'last', 'from', 'ended')
  if stream[1] ~= token then return true end
  if position == '' then return false end
  return math.max(tonumber(position), tonumber(stream[3] or 0)) ~= tonumber(stream[2]) or stream[4] ~= ''
end

local replies = {}
for n = 1, #KEYS / 2 do
  -- A key of another type holds no session, and is no concern of the others.
  local text, token = redis.pcall('GET', KEYS[2 * n - 1]), ARGV[3 * n - 1]
  local created, deadline, last, expires
  if type(text) == 'string' then
    created, deadline, last, expires = string.match(text, '^1 (%d+) (%d+) (%-?%d+) (%-?%d+) ')
  end
  replies[n] = false
  if created and now < created + math.min(expires, deadline) then
    local since, left = now - created - last, created + deadline - now
    local news = token ~= '' and changed(KEYS[2 * n], token, ARGV[3 * n])
    local barred = tonumber(created) < tonumber(ARGV[3 * n + 1])
    replies[n] = (news or left < NEAR or barred) and {since, left, news and 1 or 0, barred and 1 or 0} or since
  end
end
return replies
