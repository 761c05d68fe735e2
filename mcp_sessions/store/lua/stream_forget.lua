-- Delete what is left of a session that is over, and name the logs of its exchanges that have ended, which have to go, too.
-- Atomic so that a session that lives loses nothing, and each name is given to one node only.
-- KEYS: 1 record, 2 names of ended streams, then what else there may be.
-- ARGV: 1 now or ''.
-- Returns: the names. None if the session lives, or its record cannot be read.
local session, unreadable = load(KEYS[1], clock(ARGV[1]))
if session or unreadable then return {} end
local names = redis.call('ZRANGE', KEYS[2], 0, -1)
redis.call('DEL', unpack(KEYS, 2))
return names
