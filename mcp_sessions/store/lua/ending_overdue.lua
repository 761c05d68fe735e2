-- Endings that nobody has finished in time: their process was killed, or lost the store. Atomic so that of several nodes
-- one takes each; should that one fail, too, another takes it after the same time.
-- KEYS: 1 endings.
-- ARGV: 1 now or '', 2 after how long ms.
-- Returns: {token, what is to be ended, token, what is to be ended...}.
local now, overdue = clock(ARGV[1]), {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local began, what = string.match(all[i + 1], '^(%d+) (.*)$')
  if math.abs(now - tonumber(began)) >= tonumber(ARGV[2]) then
    redis.call('HSET', KEYS[1], all[i], string.format('%.0f ', now) .. what)
    overdue[#overdue + 1] = all[i]
    overdue[#overdue + 1] = what
  end
end
return overdue
