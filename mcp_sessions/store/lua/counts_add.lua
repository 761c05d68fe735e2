-- Add what a process counted to the totals, and to the spans of time that it belongs to now. Atomic so that a batch that
-- is sent again counts once, and so that a name beyond the bound is found before it is written.
-- KEYS: 1 the last batch of the process, 2 names of tools by their last call, 3 totals, 4 totals of tools, then of each
-- span its numbers and its tools.
-- ARGV: 1 now or '', 2 batch, 3 how many names there may be, 4 for how many ms totals and names are kept, 5 how many
-- numbers follow, then of each key from 5 on which step it is, the length of a step ms, and its TTL ms; then names and
-- numbers; then tools and their numbers in one text.
-- Returns: {now} if the steps are not those of now, and nothing is added; else {now, 1 if the first step begins, else 0}.
local now, most, kept, at = clock(ARGV[1]), tonumber(ARGV[3]), tonumber(ARGV[4]), 6
local begins = 1 - redis.call('EXISTS', KEYS[5])
for _ = 5, #KEYS do
  if math.floor(now / ARGV[at + 1]) ~= tonumber(ARGV[at]) then return {now} end
  at = at + 3
end
if redis.call('GET', KEYS[1]) == ARGV[2] then return {now, 0} end
redis.call('SET', KEYS[1], ARGV[2], 'PX', 600000)
local first, tools, score = at, at + 2 * ARGV[5], string.format('%.0f', now)

-- The name that a tool is counted by. If there are too many, those make room that nobody has called for long.
local function named(tool)
  if not redis.call('ZSCORE', KEYS[2], tool) and redis.call('ZCARD', KEYS[2]) >= most then
    local old = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now - kept), 'LIMIT', 0, 100)
    if #old == 0 then return '(other)' end
    redis.call('HDEL', KEYS[4], unpack(old))
    redis.call('ZREM', KEYS[2], unpack(old))
  end
  redis.call('ZADD', KEYS[2], score, tool)
  return tool
end

local function add(key, tool, text)
  local known, sum = string.gmatch(redis.call('HGET', key, tool) or '', '%d+'), {}
  for number in string.gmatch(text, '%d+') do sum[#sum + 1] = number + (known() or 0) end
  redis.call('HSET', key, tool, table.concat(sum, ' '))
end

for key = 3, #KEYS, 2 do
  for each = first, tools - 1, 2 do redis.call('HINCRBY', KEYS[key], ARGV[each], ARGV[each + 1]) end
end
for each = tools, #ARGV, 2 do
  local tool = named(ARGV[each])
  for key = 4, #KEYS, 2 do add(KEYS[key], tool, ARGV[each + 1]) end
end
for key = 2, 4 do redis.call('PEXPIRE', KEYS[key], ARGV[4]) end
for key = 5, #KEYS do redis.call('PEXPIRE', KEYS[key], ARGV[8 + 3 * (key - 5)]) end
return {now, begins}
