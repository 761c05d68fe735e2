-- Forget a record that ended, and whose end was announced. Atomic so that what another call left stays.
-- KEYS: 1 the record as it was.
-- ARGV: 1 now or '' (not used), 2 token of the call.
-- Returns: 1 if it was known, else 0.
local was, mark = redis.call('GET', KEYS[1]), 'over ' .. ARGV[2] .. '\n'
if not was or string.sub(was, 1, #mark) ~= mark then return 0 end
return redis.call('DEL', KEYS[1])
