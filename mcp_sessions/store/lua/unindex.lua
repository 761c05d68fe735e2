-- Drop records that are gone from indexes of one shard, and remember for a while that they are: an update that comes late
-- must not bring them back. One that was made again since then stays. Atomic so that no reader sees half of it.
-- KEYS: 1 gone, then the indexes, and perhaps ends and fingerprints, of all of the records.
-- ARGV: 1 now or '', 2 how long it is remembered ms, then for each: fingerprint, its last activity ms, the numbers of its
--       keys, separated by spaces, first that of an index by last activity.
-- Returns: how many entries were dropped.
local now, members, dropped = clock(ARGV[1]), {}, 0
local last = string.format('%.0f', now)
for i = 3, #ARGV, 3 do
  local first = tonumber(string.match(ARGV[i + 2], '^%d+'))
  local score = tonumber(redis.call('ZSCORE', KEYS[first], ARGV[i]) or 0)
  -- One that is ahead of the clock is from before the clock was set back: it says nothing of what came since.
  if score <= tonumber(ARGV[i + 1]) or score > now then
    redis.call('ZADD', KEYS[1], last, ARGV[i])
    for number in string.gmatch(ARGV[i + 2], '%d+') do
      local key = tonumber(number)
      members[key] = members[key] or {}
      table.insert(members[key], ARGV[i])
    end
  end
end
-- What is remembered for long enough, a few at a time, but more than a run adds: after thousands of ends, all of it is due
-- at once.
local due = string.format('(%.0f', now - tonumber(ARGV[2]))
local old = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', due, 'LIMIT', 0, 100)
if #old > 0 then redis.call('ZREM', KEYS[1], unpack(old)) end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
for key, some in pairs(members) do dropped = dropped + redis.call('ZREM', KEYS[key], unpack(some)) end
return dropped
