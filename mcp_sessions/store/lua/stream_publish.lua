-- Append messages to the standalone stream, from anywhere. Atomic so that concurrent publications get positions of their
-- own, and a repeated call publishes nothing twice.
-- KEYS: 1 record, 2 log, 3 info, 4 publications of the last minute.
-- ARGV: 1 now or '', 2 name of this publication, 3 how long it is remembered ms, 4 how many are remembered,
--       5 events at most, 6 bytes at most, 7 ttl ms, then payloads.
-- Returns: nil for no session; a string if the record cannot be read; else {last position, node, token, 1}.
local now = clock(ARGV[1])
local session, unreadable = load(KEYS[1], now)
if not session then return unreadable end
local stream = stream_of() or new_stream('', '', ARGV[7])
local remembered = tonumber(ARGV[3])
if tonumber(redis.call('ZSCORE', KEYS[4], ARGV[2]) or 0) > now - remembered then return appended(stream, 1) end
redis.call('ZADD', KEYS[4], string.format('%.0f', now), ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', string.format('%.0f', now - remembered))
redis.call('ZREMRANGEBYRANK', KEYS[4], 0, -1 - tonumber(ARGV[4]))
redis.call('PEXPIRE', KEYS[4], math.min(remembered, session.deadline - now))
add(stream, after(stream.last, now), 8)
trim(stream, tonumber(ARGV[5]), tonumber(ARGV[6]))
save(stream, ARGV[7])
live(stream, session, now)
return appended(stream, 1)
