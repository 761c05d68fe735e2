-- Store a new session. Atomic so that an id that is taken, or ended a moment ago, does not get a second session.
-- KEYS: 1 record, 2 tombstone.
-- ARGV: 1 now or '', 2 principal, 3 handshake, 4 first ms, 5 maximum age ms, 6 'again' if one may come after another
--       that was ended, or '', 7 when it was created ms, as its id says, or '', 8 the moment before which none counts
--       ms, or 0.
-- Returns: 'exists' or 'ended' if nothing was stored; else {record, 0}.
if ARGV[6] ~= 'again' and redis.call('EXISTS', KEYS[2]) == 1 then return 'ended' end
local now = clock(ARGV[1])
-- A record that is over may still be there: it gives way.
local session, unreadable = load(KEYS[1], now)
if session or unreadable then return 'exists' end
-- By how much the clock by which its id was made may be wrong, ms: half of what is allowed for where ends are remembered.
local FAR = 30000
local created, said, age = math.max(now, tonumber(ARGV[8])), tonumber(ARGV[7]), tonumber(ARGV[5])
if said and math.abs(said - now) > FAR and said + age > now then created = said end
local deadline = created + age
session = {
  created = created, deadline = deadline, last = now, expires = math.min(now + tonumber(ARGV[4]), deadline),
  indexed = now, requests = 0, flags = '', call = '', principal = ARGV[2], handshake = ARGV[3],
}
return {keep_record(KEYS[1], session, now), 0}
