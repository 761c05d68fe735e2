-- Take over the exchange of a dead node in order to run it again, or see whether this node still has it. Atomic so that
-- one of several nodes runs it, and no more often than it may. From then on the dead node's messages are refused.
-- KEYS: 1 record, 2 log, 3 info.
-- ARGV: 1 now or '', 2 the dead node, 3 the node that runs it, 4 how often it may be run again.
-- Returns: nil for no session or no stream; a string if the record cannot be read;
--          else {the node that runs it from now on, '' if the stream has ended; how often it was run again}.
local now = clock(ARGV[1])
local session, unreadable = load(KEYS[1], now)
if not session then return unreadable end
local stream = stream_of()
if not stream then return nil end
local origin, reruns = stream.origin, tonumber(redis.call('HGET', KEYS[3], 'reruns') or 0)
if stream.ended ~= '' then return {'', reruns} end
if origin == ARGV[2] and origin ~= ARGV[3] and reruns < tonumber(ARGV[4]) then
  origin, reruns = ARGV[3], reruns + 1
  redis.call('HSET', KEYS[3], 'origin', origin, 'reruns', reruns)
end
if origin == ARGV[3] then live(stream, session, now) end
return {origin, reruns}
