-- Note what requests of a record did. The newest ones replace the oldest. Atomic so that nothing is written for a record
-- that ends meanwhile, and no number is lost.
-- KEYS: 1 record, 2 its requests.
-- ARGV: 1 now or '' (not used), 2 how many requests are kept, 3 how many of these failed, 4 how many more there were
--       before them, then the requests, oldest first.
-- Returns: 1, or 0 if there is no record.
local left = redis.call('PTTL', KEYS[1])
if left <= 0 then return 0 end
local number, changes = (redis.call('HGET', KEYS[2], 'n') or 0) + ARGV[4], {}
for n = 5, #ARGV do
  changes[#changes + 1], changes[#changes + 2] = string.format('%.0f', number % ARGV[2]), ARGV[n]
  number = number + 1
end
redis.call('HSET', KEYS[2], 'n', string.format('%.0f', number), unpack(changes))
if ARGV[3] ~= '0' then redis.call('HINCRBY', KEYS[2], 'failed', ARGV[3]) end
redis.call('PEXPIRE', KEYS[2], left)
return 1
