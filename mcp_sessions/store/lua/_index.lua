-- Put before the scripts that write the indexes of a shard. They are hints about the records: sorted sets of fingerprints
-- (32 bytes each) by last activity. Two of each kind have all of its records: `ends` by when they end, `fingerprints` with
-- equal scores, so in the order of the fingerprints.

-- Let a key live for so many milliseconds from now on, or longer if it does already.
local function live(key, ms)
  if redis.call('PTTL', key) < ms then redis.call('PEXPIRE', key, string.format('%.0f', ms)) end
end
