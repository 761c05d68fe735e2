-- Values of a session's state. Atomic so that they are of one moment, and of a session that is alive.
-- KEYS: 1 record, 2 state.
-- ARGV: 1 now or '', then names; none means every name.
-- Returns: nil for no session; a string if the record cannot be read; else {values}, or {names, values} of all.
local session, unreadable = load(KEYS[1], clock(ARGV[1]))
if not session then return unreadable end
local values = {}
for i = 2, #ARGV do values[i - 1] = redis.call('HGET', KEYS[2], ARGV[i]) end
if #ARGV > 1 then return {values} end
local all = redis.call('HGETALL', KEYS[2])
for i = 1, #all, 2 do
  if all[i] ~= TOTAL then
    values[#values + 1] = all[i]
    values[#values + 1] = all[i + 1]
  end
end
return {values}
