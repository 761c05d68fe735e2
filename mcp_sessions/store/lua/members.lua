-- A stretch of an index, with scores, and how many entries match. Atomic so that the ranks by which it is cut out hold.
-- KEYS: 1 index.
-- ARGV: 1 now or '', 2 how long a member can matter ms, 3 since ms or '', 4 before ms or '', 5 'asc' or 'desc', 6 the
--       score that it begins with or '', 7 the member with that score after which it begins or '', 8 offset, 9 limit.
-- Returns: {how many match, how many of them come before it begins, {fingerprint, score, fingerprint, score...} in
--          ascending order}.
local index, asc, score, member = KEYS[1], ARGV[5] == 'asc', ARGV[6], ARGV[7]
local since = math.max(clock(ARGV[1]) - tonumber(ARGV[2]), tonumber(ARGV[3]) or 0)

-- How many entries have a lower score.
local function below(bound) return redis.call('ZCOUNT', index, '-inf', '(' .. bound) end

local low = below(string.format('%.0f', since))
local high = ARGV[4] == '' and redis.call('ZCARD', index) or below(ARGV[4])
local total = math.max(0, high - low)
-- The rank of the first entry, in the order of the list.
local first = asc and low or high - 1
if score ~= '' then
  local from, to = below(score), redis.call('ZCOUNT', index, '-inf', score)
  if member == '' then
    first = asc and math.max(low, from) or math.min(high - 1, to - 1)
  else
    -- Entries of equal score are in the order of their members: find the first that is greater, or not less.
    while from < to do
      local middle = math.floor((from + to) / 2)
      local there = redis.call('ZRANGE', index, middle, middle)[1]
      if there < member or (asc and there == member) then from = middle + 1 else to = middle end
    end
    first = asc and math.max(low, from) or math.min(high - 1, from - 1)
  end
end
local offset, limit = tonumber(ARGV[8]), tonumber(ARGV[9])
local start = asc and first - low or high - 1 - first
local from = asc and first + offset or math.max(low, first - offset - limit + 1)
local to = asc and math.min(high, from + limit) - 1 or first - offset
if limit <= 0 or to < from then return {total, start, {}} end
return {total, start, redis.call('ZRANGE', index, from, to, 'WITHSCORES')}
