-- Whether a session is remembered as ended. A script so that every call has the same shape.
-- KEYS: the tombstones where it would be.
-- ARGV: 1 now or '' (not used), 2 the first half of its fingerprint.
-- Returns: 1 or 0.
for _, key in ipairs(KEYS) do
  if redis.call('SISMEMBER', key, ARGV[2]) == 1 then return 1 end
end
return 0
