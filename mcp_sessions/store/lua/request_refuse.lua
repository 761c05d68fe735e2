-- Refuse the response that was left for a node that is taken for dead. Atomic so that, should that node wake up at this
-- moment, the response either counts or is refused.
-- KEYS: 1 request.
-- ARGV: 1 now or '' (not used).
-- Returns: 1 if it is refused, 0 if it counted.
if redis.call('HEXISTS', KEYS[1], 'taken') == 1 then return 0 end
redis.call('DEL', KEYS[1])
return 1
