-- Remember sessions that are about to be ended, until that is done and announced. Atomic so that the key never lacks a TTL.
-- KEYS: 1 endings.
-- ARGV: 1 now or '', 2 token, 3 what is to be ended, 4 how long it is remembered ms.
-- Returns: nothing.
redis.call('HSET', KEYS[1], ARGV[2], string.format('%.0f ', clock(ARGV[1])) .. ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
