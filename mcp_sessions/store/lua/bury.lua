-- Leave the tombstone of a session whose record is gone, so that nobody opens it again. Atomic so that nobody does so in
-- between.
-- KEYS: 1 record, 2 tombstone.
-- ARGV: 1 now or '', 2 the tombstone, 3 deadline ms.
-- Returns: 'ended', 'over', 'revived' or 'unreadable' if nothing was done; else 'buried'.
local now = clock(ARGV[1])
if redis.call('EXISTS', KEYS[2]) == 1 then return 'ended' end
local session, unreadable = load(KEYS[1], now)
if session then return 'revived' end
if unreadable then return 'unreadable' end
if now >= tonumber(ARGV[3]) then return 'over' end
redis.call('SET', KEYS[2], ARGV[2], 'PX', string.format('%.0f', ARGV[3] - now))
return 'buried'
