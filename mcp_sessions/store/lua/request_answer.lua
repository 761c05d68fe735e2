-- Leave the client's response for the node that waits. Atomic so that exactly one of several answers wins.
-- KEYS: 1 record, 2 request.
-- ARGV: 1 now or '', 2 payload.
-- Returns: nil for no session, or if nobody waits, or it was answered; a string if the record cannot be read;
--          else {the node that waits}.
local session, unreadable = load(KEYS[1], clock(ARGV[1]))
if not session then return unreadable end
local node = redis.call('HGET', KEYS[2], 'node')
if not node or redis.call('HSETNX', KEYS[2], 'answer', ARGV[2]) == 0 then return nil end
return {node}
