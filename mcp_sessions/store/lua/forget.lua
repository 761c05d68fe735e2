-- Forget a record that ended, and whose end was announced. Atomic so that what another call left stays.
-- KEYS: 1 the record as it was.
-- ARGV: 1 now or '' (not used), 2 token of the call.
-- Returns: nothing.
local was, mark = redis.call('GET', KEYS[1]), 'over ' .. ARGV[2] .. '\n'
if was and string.sub(was, 1, #mark) == mark then redis.call('DEL', KEYS[1]) end
