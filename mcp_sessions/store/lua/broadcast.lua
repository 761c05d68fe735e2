-- Leave a message for every node. Atomic so that the key never lacks a TTL.
-- KEYS: 1 broadcasts.
-- ARGV: 1 now or '' (not used), 2 how many are kept, about, 3 for how long after the last one ms, 4 the message.
-- Returns: the broadcast's id.
local id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'n', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return id
