-- Take a new record's place in indexes of one shard, unless a cap forbids it.
-- Atomic so that records that are made at the same moment do not exceed the cap together.
-- KEYS: 1 gone, then the indexes, then, if they are those of the record's own shard, client names, ends, fingerprints.
-- ARGV: 1 now or '', 2 fingerprint, 3 one that has a place so far and gives it up, or '', 4 in how many ms it ends, 5 for
--       how many ms longer its entries stay, 6 how many indexes, 7 client name, 8 how long a client name is remembered ms,
--       9 for how many ms the oldest entries can matter, then for each cap: 1 for the cap of all or 2 for the
--       principal's, the number of its index, the cap.
-- Returns: nil, or {1 or 2, the key of the full index, now}.
local now, member, left = clock(ARGV[1]), ARGV[2], tonumber(ARGV[4])
local count, keep, old = 1 + tonumber(ARGV[6]), left + tonumber(ARGV[5]), string.format('(%.0f', now - tonumber(ARGV[9]))
local OLD = 10

local function has(key, who)
  return who ~= '' and redis.call('ZSCORE', key, who) and 1 or 0
end

for i = 10, #ARGV, 3 do
  local key = KEYS[1 + tonumber(ARGV[i + 1])]
  -- A call that is repeated, and a record that was there before, have their place.
  local taken = redis.call('ZCARD', key) - has(key, member) - has(key, ARGV[3])
  if taken >= tonumber(ARGV[i + 2]) then return {tonumber(ARGV[i]), key, now} end
end
redis.call('ZREM', KEYS[1], member)
for i = 2, count do
  if ARGV[3] ~= '' then redis.call('ZREM', KEYS[i], ARGV[3]) end
  -- What is left of records that were lost, a few at a time.
  local lost = redis.call('ZRANGEBYSCORE', KEYS[i], '-inf', old, 'LIMIT', 0, OLD)
  if #lost > 0 then redis.call('ZREM', KEYS[i], unpack(lost)) end
  redis.call('ZADD', KEYS[i], 'GT', string.format('%.0f', now), member)
  live(KEYS[i], keep)
end
if #KEYS > count then
  local names, ends, fingerprints = KEYS[count + 1], KEYS[count + 2], KEYS[count + 3]
  redis.call('ZADD', names, 'GT', string.format('%.0f', now), ARGV[7])
  redis.call('ZREMRANGEBYRANK', names, 0, -101)
  redis.call('PEXPIRE', names, ARGV[8])
  redis.call('ZADD', ends, string.format('%.0f', now + left), member)
  live(ends, keep)
  redis.call('ZADD', fingerprints, 0, member)
  live(fingerprints, keep)
end
return nil
