-- Which node waits for the answer to a question. Atomic because the session must be alive and the question open.
-- KEYS: 1 record, 2 question.
-- ARGV: 1 now (tests) or ''.
-- Returns: nil for no session, or if nobody waits, or it was answered; a string if the record cannot be read;
--          else {the node that waits}.
local session, unreadable = load(KEYS[1], clock(ARGV[1]))
if not session then return unreadable end
local values = redis.call('HMGET', KEYS[2], 'node', 'answer')
if not values[1] or values[2] then return nil end
return {values[1]}
