-- What was counted in some steps of time. Not for atomicity: one reply of many keys is one script instead of many.
-- KEYS: numbers or tools of steps, or totals.
-- ARGV: 1 now or ''.
-- Returns: {now, {name, number...} of each key}.
local found = {clock(ARGV[1])}
for _, key in ipairs(KEYS) do found[#found + 1] = redis.call('HGETALL', key) end
return found
