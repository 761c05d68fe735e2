-- Remember that sessions have ended, for as long as their ids would be good. Atomic so that the key never lacks a TTL.
-- KEYS: 1 tombstones.
-- ARGV: 1 now or '', 2 until when ms, then the first half of each fingerprint.
-- Returns: nothing.
for i = 3, #ARGV do redis.call('SADD', KEYS[1], ARGV[i]) end
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.max(1, ARGV[2] - clock(ARGV[1]))))
