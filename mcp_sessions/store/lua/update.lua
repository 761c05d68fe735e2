-- Put records where their last activity belongs in indexes of one shard, unless they are gone. For several records at a
-- time. Atomic so that a record that ends in the middle does not come back.
-- KEYS: for each: gone, then the indexes, and, if they are those of the record's own shard, ends and fingerprints.
-- ARGV: 1 now or '' (not used), then for each: how many keys, how many indexes, fingerprint, last activity ms, when it
--       ends ms, for how many ms longer its entries stay.
-- Returns: for each 1 if it was written, 0 if it is gone; an error if one of its keys is of another type, which is no
--          concern of the others. Any other error ends the run: the caller then tries each alone.
local function put(key, arg)
  local member, last, ends = ARGV[arg + 2], ARGV[arg + 3], ARGV[arg + 4]
  if redis.call('ZSCORE', KEYS[key], member) then return 0 end
  local after, keep = key + tonumber(ARGV[arg + 1]), tonumber(ends) - tonumber(last) + tonumber(ARGV[arg + 5])
  for i = key + 1, after do
    redis.call('ZADD', KEYS[i], 'GT', last, member)
    live(KEYS[i], keep)
  end
  if tonumber(ARGV[arg]) > 1 + tonumber(ARGV[arg + 1]) then
    redis.call('ZADD', KEYS[after + 1], ends, member)
    live(KEYS[after + 1], keep)
    redis.call('ZADD', KEYS[after + 2], 0, member)
    live(KEYS[after + 2], keep)
  end
  return 1
end

local key, replies = 1, {}
for arg = 2, #ARGV, 6 do
  local done, reply = pcall(put, key, arg)
  if not done then
    local problem = type(reply) == 'table' and reply.err or tostring(reply)
    if not string.find(problem, 'WRONGTYPE', 1, true) then return redis.error_reply(problem) end
    reply = {err = problem}
  end
  replies[#replies + 1] = reply
  key = key + tonumber(ARGV[arg])
end
return replies
