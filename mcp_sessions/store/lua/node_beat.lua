-- Heartbeat of a node. Atomic so that a node that beats while the dead are forgotten is not forgotten with them.
-- The inboxes of dead nodes go by their TTL.
-- KEYS: 1 nodes, 2 what they tell, 3 the node's inbox.
-- ARGV: 1 now or '', 2 node, 3 what it tells, 4 after how long a node is forgotten ms.
-- Returns: ms since its last sign of life; nil if none is known.
local now, forget = clock(ARGV[1]), tonumber(ARGV[4])
local seen = redis.call('ZSCORE', KEYS[1], ARGV[2])
-- The clock was set back: who beat by the old one is as alive as who beats now, and dies as soon.
local ahead = redis.call('ZRANGEBYSCORE', KEYS[1], string.format('(%.0f', now), '+inf')
for _, node in ipairs(ahead) do redis.call('ZADD', KEYS[1], string.format('%.0f', now), node) end
local dead = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now - forget), 'LIMIT', 0, 1000)
if #dead > 0 then
  redis.call('ZREM', KEYS[1], unpack(dead))
  redis.call('HDEL', KEYS[2], unpack(dead))
end
-- Only now: the node itself may have been silent for too long.
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[2])
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, forget) end
return seen and now - tonumber(seen)
