-- Requests of sessions: for each, load, check the principal, slide, count, remember the call.
-- Atomic so that a session that ends between the reading and the writing does not come back.
-- KEYS: for each 1 record, 2 features, 3 state.
-- ARGV: 1 now or '', then for each 1 principal, 2 idle ms, 3 call or '', 4 'i' if initialized now or '', 5 index interval
--       ms.
-- Returns: for each nil for a stranger or no session; a string if the record cannot be read; an error if one of its keys
--          is of another type, which is no concern of the other sessions; else {record, due, features}. Any other error
--          ends the run: the caller then tries each alone.
local now = clock(ARGV[1])

local function touch(key, arg)
  local session, unreadable = load(KEYS[key], now)
  if not session then return unreadable or false end
  if session.principal ~= ARGV[arg] then return false end
  mark(session, 'a')
  if ARGV[arg + 3] ~= '' then mark(session, ARGV[arg + 3]) end
  if ARGV[arg + 2] ~= '' then session.call = ARGV[arg + 2] end
  session.requests = session.requests + 1
  return slide(session, now, tonumber(ARGV[arg + 1]), tonumber(ARGV[arg + 4]), key)
end

local replies = {}
for n = 1, #KEYS / 3 do
  local done, reply = pcall(touch, 3 * n - 2, 5 * n - 3)
  if not done then
    local problem = type(reply) == 'table' and reply.err or tostring(reply)
    if not string.find(problem, 'WRONGTYPE', 1, true) then return redis.error_reply(problem) end
    reply = {err = problem}
  end
  replies[n] = reply
end
return replies
