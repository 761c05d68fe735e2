-- Leave a notice for every node. Atomic because a key without a TTL would stay for ever.
-- KEYS: 1 notices.
-- ARGV: 1 how many are kept, about, 2 for how long after the last one ms, 3 the notice.
-- Returns: the notice's id.
local id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'n', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return id
