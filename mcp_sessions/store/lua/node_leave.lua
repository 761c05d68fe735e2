-- Forget a node that stops. Atomic so that nobody notifies it between the deletions.
-- KEYS: 1 nodes, 2 what they tell, 3 the node's inbox, 4 the nodes by their reports, 5 what they reported.
-- ARGV: 1 now or '' (not used), 2 node.
-- Returns: nothing.
redis.call('HDEL', KEYS[2], ARGV[2])
redis.call('DEL', KEYS[3])
redis.call('HDEL', KEYS[5], ARGV[2])
redis.call('ZREM', KEYS[4], ARGV[2])
redis.call('ZREM', KEYS[1], ARGV[2])
