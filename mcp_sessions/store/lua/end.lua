-- End sessions: delete their parts and leave tombstones. For several at a time. Atomic so that exactly one of several
-- callers gets a session, and nobody writes a part of it between the deletions. With the reason 'max_age', only a session
-- that does not expire before its deadline is ended, and still for a while after it, when nothing else finds the session
-- any more. A caller that repeats its call, with the same token, gets the same session again.
-- KEYS: for each: record, features, state, tombstone, the record as it was, names of ended streams, then other parts.
-- ARGV: 1 now or '', then for each: how many keys, '=' and the principal, or '' for anybody's, reason, tombstone ms, token
--       of the call, how long its session is known ms, how much longer than the session's deadline the tombstone lives ms,
--       or '' if it need not, how long one lives that is left where there is no session, as its id may be good, ms or '',
--       before when the session was created ms, or ''.
-- Returns: for each: nil for a stranger or no session; a string if the record cannot be read; else {record, 0, features,
--          1 if it has ended streams, or 0}, without the features if the call is repeated. An error is for all.
local time = clock(ARGV[1])

local function finish(key, count, whose, reason, short, token, known, longer, left, before)
  local aged, mark = reason == 'max_age', reason .. ' ' .. token
  local record, features, tombstone, copy = KEYS[key], KEYS[key + 1], KEYS[key + 3], KEYS[key + 4]
  local streams = redis.call('EXISTS', KEYS[key + 5])
  -- First: since then there may be another record with this fingerprint, which this call does not mean.
  local was = redis.call('GET', tombstone) == mark and redis.call('GET', copy)
  if was then return {was, 0, {}, streams} end
  local session, unreadable = load(record, aged and time - OVERDUE or time)
  if not session then
    if not unreadable and not aged and left ~= '' and whose == '' and redis.call('EXISTS', tombstone) == 0 then
      redis.call('SET', tombstone, mark, 'PX', left)
    end
    return unreadable or false
  end
  if aged and session.expires < session.deadline then return false end
  if before ~= '' and session.created >= tonumber(before) then return false end
  if whose ~= '' and whose ~= '=' .. session.principal then return false end
  local ended = reply(session.text, 0, session, features)
  ended[3], ended[4] = ended[3] or {}, streams
  -- First, because a full Redis lets a script delete, and write after its first command.
  redis.call('DEL', record, features, KEYS[key + 2], unpack(KEYS, key + 6, key + count - 1))
  local keep = tonumber(short)
  if longer ~= '' then keep = math.max(keep, session.deadline - time + longer) end
  redis.call('SET', tombstone, mark, 'PX', string.format('%.0f', keep))
  redis.call('SET', copy, ended[1], 'PX', known)
  return ended
end

local key, replies = 1, {}
for arg = 2, #ARGV, 9 do
  replies[#replies + 1] = finish(key, unpack(ARGV, arg, arg + 8))
  key = key + tonumber(ARGV[arg])
end
return replies
