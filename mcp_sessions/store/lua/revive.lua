-- Open a session again whose record is gone, as its id describes it. Atomic so that of several processes exactly one opens
-- it and the others find it, and so that a session that ended stays ended.
-- KEYS: 1 record, 2 features, 3 state, 4 tombstone.
-- ARGV: 1 now or '', 2 principal, 3 handshake, 4 created ms, 5 deadline ms, 6 idle ms, 7 call or '', 8 index interval ms.
-- Returns: nil for one that ended, or is over; a string if the record cannot be read; else {1 if this run opened it or 0,
--          record, due, features}.
local now, deadline, interval, opened = clock(ARGV[1]), tonumber(ARGV[5]), tonumber(ARGV[8]), 0
if redis.call('EXISTS', KEYS[4]) == 1 then return nil end
local session, unreadable = load(KEYS[1], now)
if unreadable then return unreadable end
if not session then
  if now >= deadline then return nil end
  -- A server that is short of memory may have dropped the record alone.
  redis.call('DEL', KEYS[2], KEYS[3])
  session = {
    created = tonumber(ARGV[4]), deadline = deadline, indexed = now, requests = 0, flags = 'air',
    principal = ARGV[2], handshake = ARGV[3],
  }
  interval, opened = 0, 1
end
session.requests, session.call = session.requests + 1, ARGV[7]
local found = slide(session, now, tonumber(ARGV[6]), interval, 1)
table.insert(found, 1, opened)
return found
