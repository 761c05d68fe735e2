-- Put before the scripts that write the indexes of a shard. They are hints about the records: sorted sets of fingerprints
-- (32 bytes each) by last activity. One of each kind, `ends`, has all of its records by when they end.

-- Let a key live for so many milliseconds from now on, or longer if it does already.
local function live(key, ms)
  if redis.call('PTTL', key) < ms then redis.call('PEXPIRE', key, string.format('%.0f', ms)) end
end
