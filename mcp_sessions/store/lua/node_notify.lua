-- Put notifications into the inbox of a node. Atomic so that a node that was forgotten does not get a new inbox.
-- KEYS: 1 nodes, 2 the node's inbox.
-- ARGV: 1 now or '' (not used), 2 node, 3 how many notifications an inbox holds, then notifications.
-- Returns: nothing.
if not redis.call('ZSCORE', KEYS[1], ARGV[2]) then return end
for i = 4, #ARGV do redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], '*', 'd', ARGV[i]) end
if redis.call('PTTL', KEYS[2]) < 0 then redis.call('PEXPIRE', KEYS[2], redis.call('PTTL', KEYS[1])) end
