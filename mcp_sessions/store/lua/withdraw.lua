-- Forget a question: nobody waits any more. A script, so that every call has one shape.
-- KEYS: 1 question. ARGV: none.
-- Returns: how many were forgotten.
return redis.call('DEL', KEYS[1])
