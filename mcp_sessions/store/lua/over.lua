-- Records of one shard that ought to have ended, for the one node that looks after it. Atomic so that it is one.
-- KEYS: 1 who looks after the shard, then for each kind its ends.
-- ARGV: 1 now or '', 2 node, 3 for how many ms no other node looks after it, 4 how many records of each kind at most.
-- Returns: nil if another node does; else {now, for each kind its fingerprints}.
local now, node = string.format('%.0f', clock(ARGV[1])), redis.call('GET', KEYS[1])
if node and node ~= ARGV[2] then return nil end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
local found = {now}
for i = 2, #KEYS do
  found[i] = redis.call('ZRANGEBYSCORE', KEYS[i], '-inf', now, 'LIMIT', 0, ARGV[4])
end
return found
