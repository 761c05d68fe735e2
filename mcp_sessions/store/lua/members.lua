-- One page of an index and how many match. Atomic so that the ranks by which the page is cut out hold.
-- KEYS: 1 index, 2 its ends.
-- ARGV: 1 now or '', 2 how long a member can matter ms, 3 since ms or '', 4 before ms or '', 5 offset,
--       6 limit, 7 'asc' or 'desc'.
-- Returns: {how many match, fingerprints}.
local index, now = KEYS[1], clock(ARGV[1])
local offset, limit = tonumber(ARGV[5]), tonumber(ARGV[6])
trim_ends(index, KEYS[2], now)
local since = string.format('%.0f', math.max(now - tonumber(ARGV[2]), tonumber(ARGV[3]) or 0))
local before = ARGV[4] == '' and '+inf' or '(' .. ARGV[4]
local below = redis.call('ZCOUNT', index, '-inf', '(' .. since)
local total = redis.call('ZCOUNT', index, since, before)
local count = math.min(limit, total - offset)
if count <= 0 then return {total, {}} end
if ARGV[7] == 'asc' then
  return {total, redis.call('ZRANGE', index, below + offset, below + offset + count - 1)}
end
local above = redis.call('ZCARD', index) - below - total
return {total, redis.call('ZREVRANGE', index, above + offset, above + offset + count - 1)}
