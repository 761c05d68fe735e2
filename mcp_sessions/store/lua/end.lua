-- End a session: delete its parts and leave a tombstone. Atomic so that exactly one of several callers gets the session,
-- and nobody writes a part of it between the deletions. With the reason 'max_age', only a session that does not
-- expire before its deadline is ended, and still for a while after it, when nothing else finds the session any more.
-- A caller that repeats its call, with the same token, gets the same session again.
-- KEYS: 1 record, 2 features, 3 state, 4 tombstone, 5 the record as it was, then other parts.
-- ARGV: 1 now or '', 2 '=' and the principal, or '' for anybody's, 3 reason, 4 tombstone ms, 5 token of the call, 6 how
--       long its session is known ms, 7 how much longer than the session's deadline the tombstone lives ms, or '' if it
--       need not, 8 how long one lives that is left where there is no session, as its id may be good, ms or ''.
-- Returns: nil for a stranger or no session; a string if the record cannot be read; else {record, 0, features}, without
--          the features if the call is repeated.
local now, aged = clock(ARGV[1]), ARGV[3] == 'max_age'
local mark = ARGV[3] .. ' ' .. ARGV[5]
-- First: since then there may be another record with this fingerprint, which this call does not mean.
local was = redis.call('GET', KEYS[4]) == mark and redis.call('GET', KEYS[5])
if was then return {was, 0} end
local session, unreadable = load(KEYS[1], aged and now - OVERDUE or now)
if not session then
  if not unreadable and not aged and ARGV[8] ~= '' and ARGV[2] == '' and redis.call('EXISTS', KEYS[4]) == 0 then
    redis.call('SET', KEYS[4], mark, 'PX', ARGV[8])
  end
  return unreadable
end
if aged and session.expires < session.deadline then return nil end
if ARGV[2] ~= '' and ARGV[2] ~= '=' .. session.principal then return nil end
local ended = reply(text_of(session), 0, session, KEYS[2])
-- First, because a full Redis lets a script delete, and write after its first command.
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], unpack(KEYS, 6))
local keep = tonumber(ARGV[4])
if ARGV[7] ~= '' then keep = math.max(keep, session.deadline - now + ARGV[7]) end
redis.call('SET', KEYS[4], mark, 'PX', string.format('%.0f', keep))
redis.call('SET', KEYS[5], ended[1], 'PX', ARGV[6])
return ended
