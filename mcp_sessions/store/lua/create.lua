-- Store a new session. Atomic so that an id that is taken, or ended a moment ago, does not get a second session.
-- KEYS: 1 record, 2 tombstone.
-- ARGV: 1 now or '', 2 principal, 3 handshake, 4 first ms, 5 maximum age ms, 6 'again' if one may come after another
--       that was ended, or ''.
-- Returns: 'exists' or 'ended' if nothing was stored; else {record, 0}.
if ARGV[6] ~= 'again' and redis.call('EXISTS', KEYS[2]) == 1 then return 'ended' end
if redis.call('EXISTS', KEYS[1]) == 1 then return 'exists' end
local now = clock(ARGV[1])
local deadline = now + tonumber(ARGV[5])
local session = {
  created = now, deadline = deadline, last = now, expires = math.min(now + tonumber(ARGV[4]), deadline),
  indexed = now, requests = 0, flags = '', call = '', principal = ARGV[2], handshake = ARGV[3],
}
local text = text_of(session)
redis.call('SET', KEYS[1], text, 'PX', session.expires - now)
return {text, 0}
