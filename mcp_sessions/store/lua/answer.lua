-- Leave the client's response for the node that waits. Atomic because of several answers exactly one must win.
-- KEYS: 1 record, 2 question.
-- ARGV: 1 now (tests) or '', 2 payload.
-- Returns: nil for no session, or if nobody waits, or it was answered; a string if the record cannot be read;
--          else {the node that waits}.
local session, unreadable = load(KEYS[1], clock(ARGV[1]))
if not session then return unreadable end
local node = redis.call('HGET', KEYS[2], 'node')
if not node or redis.call('HSETNX', KEYS[2], 'answer', ARGV[2]) == 0 then return nil end
return {node}
