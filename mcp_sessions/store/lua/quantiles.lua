-- The scores of an index at even distances, from the first entry of the list on. Atomic so that the ranks hold.
-- KEYS: 1 index.
-- ARGV: 1 now or '', 2 how long a member can matter ms, 3 since ms or '', 4 before ms or '', 5 'asc' or 'desc', 6 how many
--       distances.
-- Returns: {how many entries match, the distance, {score...}}.
local index, now = KEYS[1], clock(ARGV[1])
local since = string.format('%.0f', math.max(now - tonumber(ARGV[2]), tonumber(ARGV[3]) or 0))
local low = redis.call('ZCOUNT', index, '-inf', '(' .. since)
local high = ARGV[4] == '' and redis.call('ZCARD', index) or redis.call('ZCOUNT', index, '-inf', '(' .. ARGV[4])
local total, scores = math.max(0, high - low), {}
local distance = math.max(1, math.ceil(total / tonumber(ARGV[6])))
for n = 0, total - 1, distance do
  local rank = ARGV[5] == 'asc' and low + n or high - 1 - n
  scores[#scores + 1] = redis.call('ZRANGE', index, rank, rank, 'WITHSCORES')[2]
end
return {total, distance, scores}
