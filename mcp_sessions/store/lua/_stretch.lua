-- Put before the scripts that read a stretch of an index by last activity.

-- How many entries have a lower score.
local function below(index, bound) return redis.call('ZCOUNT', index, '-inf', '(' .. bound) end

-- Whether a member comes before another one of equal score: byte by byte, which Lua's own comparison is not everywhere.
local function precedes(one, other)
  for i = 1, math.min(#one, #other) do
    local a, b = string.byte(one, i), string.byte(other, i)
    if a ~= b then return a < b end
  end
  return #one < #other
end

-- The lowest rank that matches, the one above the highest, and the rank of the first entry in the order of the list.
-- `since` and `before` are bounds of the score, `before` may be ''. The list begins with a score, or behind the member with
-- that score, or, if the score is '', with its first entry.
local function stretch_of(index, since, before, asc, score, member)
  local low = below(index, string.format('%.0f', since))
  local high = before == '' and redis.call('ZCARD', index) or below(index, before)
  if score == '' then return low, high, asc and low or high - 1 end
  local from, to = below(index, score), redis.call('ZCOUNT', index, '-inf', score)
  if member == '' then return low, high, asc and math.max(low, from) or math.min(high - 1, to - 1) end
  -- Entries of equal score are in the order of their members: find the first that is greater, or not less.
  while from < to do
    local middle = math.floor((from + to) / 2)
    local there = redis.call('ZRANGE', index, middle, middle)[1]
    if precedes(there, member) or (asc and there == member) then from = middle + 1 else to = middle end
  end
  return low, high, asc and math.max(low, from) or math.min(high - 1, from - 1)
end
