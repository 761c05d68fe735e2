-- Fingerprints from one on. A script so that every call has the same shape.
-- KEYS: 1 fingerprints.
-- ARGV: 1 now or '' (not used), 2 the first one that may be meant, 3 the first one that may not or '' for none, 4 how many
--       at most.
-- Returns: {fingerprint...}.
return redis.call('ZRANGEBYLEX', KEYS[1], '[' .. ARGV[2], ARGV[3] == '' and '+' or '(' .. ARGV[3], 'LIMIT', 0, ARGV[4])
