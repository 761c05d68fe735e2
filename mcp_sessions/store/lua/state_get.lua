-- Values of a session's state. Atomic because they must be of one moment, and of a session that is alive.
-- KEYS: 1 record, 2 state.
-- ARGV: 1 now (tests) or '', then names; none means every name.
-- Returns: nil for no session; a string if the record cannot be read; else {values}, or {names, values} of all.
local session, unreadable = load(KEYS[1], clock(ARGV[1]))
if not session then return unreadable end
if #ARGV == 1 then return {redis.call('HGETALL', KEYS[2])} end
local values = {}
for i = 2, #ARGV do values[i - 1] = redis.call('HGET', KEYS[2], ARGV[i]) end
return {values}
