-- Put before the scripts that read or write the indexes of a namespace. They are hints about the records: sorted
-- sets of fingerprints (32 bytes each) by last activity. `new` holds those that never became active, by when they end.
local BATCH = 1000

local function drop(key, members)
  if #members > 0 then redis.call('ZREM', key, unpack(members)) end
end

-- Drop what can no longer be alive, a bounded number at a time.
local function trim(index, now, keep)
  drop(index, redis.call('ZRANGEBYSCORE', index, '-inf', string.format('(%.0f', now - keep), 'LIMIT', 0, BATCH))
end

local function trim_new(new, now, indexes)
  local dead = redis.call('ZRANGEBYSCORE', new, '-inf', string.format('%.0f', now), 'LIMIT', 0, BATCH)
  drop(new, dead)
  for _, index in ipairs(indexes) do drop(index, dead) end
end
