-- Set values of a session's state, all or none.
-- Atomic so that the bound holds, and no state outlives a session that ends meanwhile.
-- KEYS: 1 record, 2 state.
-- ARGV: 1 now or '', 2 maximum bytes, then name and value of each.
-- Returns: nil for no session; a string if the record cannot be read; -1 if it would be too large; else {}.
local now = clock(ARGV[1])
local session, unreadable = load(KEYS[1], now)
if not session then return unreadable end
local bytes = total()
for i = 3, #ARGV, 2 do
  bytes = bytes - size(ARGV[i], redis.call('HGET', KEYS[2], ARGV[i])) + size(ARGV[i], ARGV[i + 1])
end
if bytes > tonumber(ARGV[2]) then return TOO_LARGE end
for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
account(session, now, bytes)
return {}
