-- Forget a request: nobody waits for its answer any more. That the answer counted is remembered for a while, for a node
-- that is about to refuse it. Atomic so that it cannot be refused in between.
-- KEYS: 1 request.
-- ARGV: 1 now or '' (not used), 2 how long ms.
-- Returns: nothing.
local taken = redis.call('HEXISTS', KEYS[1], 'taken')
redis.call('DEL', KEYS[1])
if taken == 1 then
  redis.call('HSET', KEYS[1], 'taken', 1)
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
