-- Take one token from each bucket of a request, or none from any. A bucket is the moment at which it is full again.
-- Atomic so that of requests at the same moment, on any process, no more are let through than there are tokens.
-- KEYS: the buckets of each request, one request after the other.
-- ARGV: 1 now or '', then for each request the number of its buckets, and for each of these how many tokens it holds, and
--       in how many ms it fills.
-- Returns: for each request 0, or {the number of the bucket that lacks a token for longest, for how many ms}.
local now = clock(ARGV[1])
-- Sums of fractions are not exact: this is a thousandth of a millisecond.
local NEARLY = 0.001

local function take(key, arg, count)
  local lacking, wait, full = 0, 0, {}
  for n = 1, count do
    local tokens, period = tonumber(ARGV[arg + 2 * n - 1]), tonumber(ARGV[arg + 2 * n])
    -- A moment that is further away is of another rate, or of a clock that was ahead.
    local before = math.min(tonumber(redis.call('GET', KEYS[key + n]) or '') or 0, now + period)
    full[n] = math.max(before, now) + period / tokens
    local lacks = full[n] - now - period
    if lacks > NEARLY and lacks > wait then lacking, wait = n, lacks end
  end
  if lacking > 0 then return {lacking, math.ceil(wait)} end
  for n = 1, count do
    redis.call('SET', KEYS[key + n], string.format('%.4f', full[n]), 'PX', string.format('%.0f', math.ceil(full[n] - now)))
  end
  return 0
end

local replies, key, arg = {}, 0, 2
while arg <= #ARGV do
  local count = tonumber(ARGV[arg])
  replies[#replies + 1] = take(key, arg, count)
  key, arg = key + count, arg + 1 + 2 * count
end
return replies
