-- Put before the scripts that keep a session from idling out.

-- Slide the idle TTL of a session and of its parts, never past its deadline, and answer as `reply` does.
-- Its keys are at `key`: the record, then features and state.
local function slide(session, now, idle, interval, key)
  -- The indexes know when it ends: at once if that was not the idle TTL after its last activity, but FIRST_TTL, which
  -- may be as long as its maximum age.
  local expires = math.min(now + idle, session.deadline)
  local other = expires < session.expires
    or session.expires < session.deadline and session.expires - session.last ~= idle
  session.last, session.expires = now, expires
  local due = 0
  if other or math.abs(now - session.indexed) >= interval then
    due, session.indexed = 1, now
  end
  local left = session.expires - now
  local text = keep_record(KEYS[key], session, now)
  if is(session, 'f') then redis.call('PEXPIRE', KEYS[key + 1], left) end
  if is(session, 's') then redis.call('PEXPIRE', KEYS[key + 2], left) end
  return reply(text, due, session, KEYS[key + 1])
end
