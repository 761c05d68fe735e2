-- Set numbers that are measured and not counted, in the steps of time in which they were. Atomic so that every span of
-- time has the same.
-- KEYS: of each span its numbers.
-- ARGV: 1 now or '' (not used), then of each key its TTL ms; then names and numbers.
-- Returns: nothing.
for key = 1, #KEYS do
  redis.call('HSET', KEYS[key], unpack(ARGV, 2 + #KEYS))
  redis.call('PEXPIRE', KEYS[key], ARGV[1 + key])
end
