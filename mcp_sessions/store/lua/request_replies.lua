-- The client's replies to a request, for the node that waits, which keeps it by asking. They stay until the request is withdrawn, so that they can
-- be read again if this reply is lost. Atomic so that they are of a session that is alive, and a response that was read
-- is not refused any more.
-- KEYS: 1 record, 2 request.
-- ARGV: 1 now or '', 2 after which progress, 3 how long the request is kept from now on ms.
-- Returns: nil for no session or no request; a string if the record cannot be read;
--          else {the place of the newest progress, {progress, progress...}, the response if it is there}.
local now = clock(ARGV[1])
local session, unreadable = load(KEYS[1], now)
if not session then return unreadable end
local values = redis.call('HMGET', KEYS[2], 'node', 'answer', 'progress')
if not values[1] then return nil end
redis.call('PEXPIRE', KEYS[2], math.min(tonumber(ARGV[3]), session.deadline - now))
if values[2] then redis.call('HSET', KEYS[2], 'taken', 1) end
local newest, progress = tonumber(values[3] or 0), {}
for place = tonumber(ARGV[2]) + 1, newest do
  local payload = redis.call('HGET', KEYS[2], string.format('progress:%d', place))
  if payload then progress[#progress + 1] = payload end
end
return {newest, progress, values[2]}
