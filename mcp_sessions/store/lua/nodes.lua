-- The nodes that are not forgotten. Atomic because both keys must be of one moment.
-- KEYS: 1 nodes, 2 what they tell. ARGV: none.
-- Returns: {{node, last heartbeat, node, last heartbeat...}, {node, what it tells...}}.
return {redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES'), redis.call('HGETALL', KEYS[2])}
