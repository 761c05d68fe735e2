-- Put doorbells into the inbox of a node. Atomic because an inbox of a node that was forgotten would be nobody's.
-- KEYS: 1 nodes, 2 the node's inbox.
-- ARGV: 1 node, 2 how many doorbells an inbox holds, then doorbells.
-- Returns: 1, or 0 for an unknown node.
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
for i = 3, #ARGV do redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*', 'd', ARGV[i]) end
if redis.call('PTTL', KEYS[2]) < 0 then redis.call('PEXPIRE', KEYS[2], redis.call('PTTL', KEYS[1])) end
return 1
