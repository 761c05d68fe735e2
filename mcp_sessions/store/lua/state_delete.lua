-- Delete names of a session's state. Atomic so that the count of bytes stays right.
-- KEYS: 1 record, 2 state.
-- ARGV: 1 now or '', then names.
-- Returns: nil for no session; a string if the record cannot be read; else {how many were set}.
local now = clock(ARGV[1])
local session, unreadable = load(KEYS[1], now)
if not session then return unreadable end
local bytes, deleted = total(), 0
for i = 2, #ARGV do
  bytes = bytes - size(ARGV[i], redis.call('HGET', KEYS[2], ARGV[i]))
  deleted = deleted + redis.call('HDEL', KEYS[2], ARGV[i])
end
if deleted > 0 then account(session, now, bytes) end
return {deleted}
