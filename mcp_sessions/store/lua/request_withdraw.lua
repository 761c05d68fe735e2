-- Forget a request: nobody waits for its answer any more. A script so that every call has the same shape.
-- KEYS: 1 request.
-- ARGV: 1 now or '' (not used).
-- Returns: how many were forgotten.
return redis.call('DEL', KEYS[1])
