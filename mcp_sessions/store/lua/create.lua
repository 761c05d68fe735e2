-- Store a new session. Atomic because an id that is taken, or ended a moment ago, must not get a second session.
-- KEYS: 1 record, 2 tombstone.
-- ARGV: 1 principal, 2 handshake, 3 first ms, 4 maximum age ms, 5 now (tests).
-- Returns: 'exists' or 'ended' when nothing was stored; else {record, 0}.
if redis.call('EXISTS', KEYS[2]) == 1 then return 'ended' end
if redis.call('EXISTS', KEYS[1]) == 1 then return 'exists' end
local now = clock(ARGV[5])
local deadline = now + tonumber(ARGV[4])
local session = {
  created = now, deadline = deadline, last = now, expires = math.min(now + tonumber(ARGV[3]), deadline),
  indexed = now, requests = 0, flags = '', call = '', principal = ARGV[1], handshake = ARGV[2],
}
local text = text_of(session)
redis.call('SET', KEYS[1], text, 'PX', session.expires - now)
return {text, 0}
