-- The nodes that are not forgotten. Atomic so that both keys are of the same moment.
-- KEYS: 1 nodes, 2 what they tell.
-- ARGV: 1 now or '' (not used).
-- Returns: {{node, last heartbeat, node, last heartbeat...}, {node, what it tells...}}.
return {redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES'), redis.call('HGETALL', KEYS[2])}
