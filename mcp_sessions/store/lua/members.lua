-- A stretch of an index, with scores, and how many entries match. Atomic so that the ranks by which it is cut out hold.
-- KEYS: 1 index, then others: an entry is left out unless it is in all of them.
-- ARGV: 1 now or '', 2 how long a member can matter ms, 3 since ms or '', 4 before ms or '', 5 'asc' or 'desc', 6 the
--       score that it begins with or '', 7 the member with that score after which it begins or '', 8 offset, 9 limit: how
--       many entries are read.
-- Returns: {how many match the bounds, how many of them come before it begins, {fingerprint, score, fingerprint,
--          score...} in ascending order, {the last entry that was read in the order of the list, its score} or {}}.
local index, asc = KEYS[1], ARGV[5] == 'asc'
local since = math.max(clock(ARGV[1]) - tonumber(ARGV[2]), tonumber(ARGV[3]) or 0)
local low, high, first = stretch_of(index, since, ARGV[4], asc, ARGV[6], ARGV[7])
local total, offset, limit = math.max(0, high - low), tonumber(ARGV[8]), tonumber(ARGV[9])
local start = asc and first - low or high - 1 - first
local from = asc and first + offset or math.max(low, first - offset - limit + 1)
local to = asc and math.min(high, from + limit) - 1 or first - offset
if limit <= 0 or to < from then return {total, start, {}, {}} end
local found = redis.call('ZRANGE', index, from, to, 'WITHSCORES')
local last = asc and {found[#found - 1], found[#found]} or {found[1], found[2]}
for i = 2, #KEYS do
  local members, kept = {}, {}
  for n = 1, #found, 2 do members[#members + 1] = found[n] end
  for n, score in ipairs(#members > 0 and redis.call('ZMSCORE', KEYS[i], unpack(members)) or {}) do
    if score then
      kept[#kept + 1] = found[2 * n - 1]
      kept[#kept + 1] = found[2 * n]
    end
  end
  found = kept
end
return {total, start, found, last}
