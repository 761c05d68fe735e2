-- Store a new session. Atomic so that an id that is taken, or ended a moment ago, does not get a second session.
-- KEYS: 1 record, 2 tombstone.
-- ARGV: 1 now or '', 2 principal, 3 handshake, 4 first ms, 5 maximum age ms, 6 'again' if one may come after another
--       that was ended, or ''.
-- Returns: 'exists' or 'ended' if nothing was stored; else {record, 0}.
if ARGV[6] ~= 'again' and redis.call('EXISTS', KEYS[2]) == 1 then return 'ended' end
local now = clock(ARGV[1])
-- A record that is over may still be there: it gives way.
local session, unreadable = load(KEYS[1], now)
if session or unreadable then return 'exists' end
local deadline = now + tonumber(ARGV[5])
session = {
  created = now, deadline = deadline, last = now, expires = math.min(now + tonumber(ARGV[4]), deadline),
  indexed = now, requests = 0, flags = '', call = '', principal = ARGV[2], handshake = ARGV[3],
}
return {keep_record(KEYS[1], session, now), 0}
