-- Put before the scripts that read or write the indexes of a namespace. They are hints about the records: sorted
-- sets of fingerprints (32 bytes each) by last activity. Each has another one beside it, its `ends`, with those that end
-- before their idle TTL is over, by when: they never became active, or reach their deadline.
local BATCH = 1000

local function drop(key, members)
  if #members > 0 then redis.call('ZREM', key, unpack(members)) end
end

-- Drop what can no longer be alive, a bounded number at a time.
local function trim(index, now, keep)
  drop(index, redis.call('ZRANGEBYSCORE', index, '-inf', string.format('(%.0f', now - keep), 'LIMIT', 0, BATCH))
end

local function trim_ends(index, ends, now)
  local dead = redis.call('ZRANGEBYSCORE', ends, '-inf', string.format('%.0f', now), 'LIMIT', 0, BATCH)
  drop(ends, dead)
  drop(index, dead)
end

-- Let a key live for so many milliseconds from now on, or longer if it does already.
local function live(key, ms)
  if redis.call('PTTL', key) < ms then redis.call('PEXPIRE', key, string.format('%.0f', ms)) end
end
