-- End a record whose time is over. It leaves no tombstone. Atomic so that exactly one of several callers gets it.
-- A caller that repeats its call, with the same token, gets the same record again.
-- KEYS: 1 record, 2 features, 3 state, 4 the record as it was, then other parts.
-- ARGV: 1 now or '', 2 token of the call, 3 how long its record is known ms.
-- Returns: nil for no record; a string if it cannot be read; else {record, 1 if it lives and stays, or 0 if it ended}.
local now, mark = clock(ARGV[1]), 'over ' .. ARGV[2] .. '\n'
local was = redis.call('GET', KEYS[4])
-- First: since then there may be another record with this fingerprint, which this call does not mean.
if was and string.sub(was, 1, #mark) == mark then return {string.sub(was, #mark + 1), 0} end
local session, unreadable = load(KEYS[1], now - OVERDUE)
if not session then return unreadable end
local text = text_of(session)
if now < math.min(session.expires, session.deadline) then return {text, 1} end
-- First, because a full Redis lets a script delete, and write after its first command.
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], unpack(KEYS, 5))
redis.call('SET', KEYS[4], mark .. text, 'PX', ARGV[3])
return {text, 0}
