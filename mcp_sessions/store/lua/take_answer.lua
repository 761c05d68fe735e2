-- The client's response. It stays until the question is withdrawn: a reply that is lost on its way can be asked for
-- again. Atomic because the session must be alive.
-- KEYS: 1 record, 2 question.
-- ARGV: 1 now (tests) or ''.
-- Returns: nil for no session or no answer; a string if the record cannot be read; else {payload}.
local session, unreadable = load(KEYS[1], clock(ARGV[1]))
if not session then return unreadable end
local answer = redis.call('HGET', KEYS[2], 'answer')
if not answer then return nil end
return {answer}
