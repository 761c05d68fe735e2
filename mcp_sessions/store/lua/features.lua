-- Set and delete features of a session: its log level, its enabled tools.
-- Atomic so that no features outlive a session that ends meanwhile.
-- KEYS: 1 record, 2 features.
-- ARGV: 1 now or '', 2 how many are set, then name and value of each, then the names to delete.
-- Returns: nil for no session; a string if the record cannot be read; else {features}.
local now = clock(ARGV[1])
local session, unreadable = load(KEYS[1], now)
if not session then return unreadable end
local set = tonumber(ARGV[2])
for i = 3, 2 + 2 * set, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
for i = 3 + 2 * set, #ARGV do redis.call('HDEL', KEYS[2], ARGV[i]) end
if redis.call('EXISTS', KEYS[2]) == 1 then
  redis.call('PEXPIRE', KEYS[2], session.expires - now)
  mark(session, 'f')
else
  session.flags = string.gsub(session.flags, 'f', '')
end
redis.call('SET', KEYS[1], text_of(session), 'KEEPTTL')
return {redis.call('HGETALL', KEYS[2])}
