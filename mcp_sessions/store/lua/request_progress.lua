-- Leave the client's progress for the node that waits. Atomic so that concurrent progress gets places of its own, and
-- none comes after the answer.
-- KEYS: 1 record, 2 request.
-- ARGV: 1 now or '', 2 payload, 3 how many are kept.
-- Returns: nil for no session, or if nobody waits, or it was answered; a string if the record cannot be read;
--          else {the node that waits}.
local session, unreadable = load(KEYS[1], clock(ARGV[1]))
if not session then return unreadable end
local values = redis.call('HMGET', KEYS[2], 'node', 'answer', 'progress')
if not values[1] or values[2] then return nil end
local newest = tonumber(values[3] or 0)
-- A call that is repeated because its reply was lost has the same payload.
if redis.call('HGET', KEYS[2], string.format('progress:%d', newest)) ~= ARGV[2] then
  newest = newest + 1
  redis.call('HSET', KEYS[2], 'progress', newest, string.format('progress:%d', newest), ARGV[2])
  redis.call('HDEL', KEYS[2], string.format('progress:%d', newest - tonumber(ARGV[3])))
end
return {values[1]}
