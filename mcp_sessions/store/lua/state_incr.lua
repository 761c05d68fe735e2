-- Add to a number in a session's state. Atomic so that the additions of two nodes both count.
-- Integers are exact within 64 bits; anything else is a double, as in JSON.
-- KEYS: 1 record, 2 state.
-- ARGV: 1 now or '', 2 maximum bytes, 3 name, 4 amount.
-- Returns: nil for no session; a string if the record cannot be read; -1 too large; -2 no number; else {sum}.
local now = clock(ARGV[1])
local session, unreadable = load(KEYS[1], now)
if not session then return unreadable end
local name, amount = ARGV[3], ARGV[4]
local INTEGER, NUMBER = '^%-?%d+$', '^%-?%d[%d%.eE%+%-]*$'
local old = redis.call('HGET', KEYS[2], name)
local before = old or '0'
if not string.match(before, NUMBER) or not tonumber(before) then return WRONG_TYPE end
local sum
if string.match(before, INTEGER) and string.match(amount, INTEGER) then
  local added = redis.pcall('HINCRBY', KEYS[2], name, amount)
  if type(added) == 'table' then
    -- No integer, or beyond 64 bits; else Redis is full, or may not be written to.
    local wrong = string.find(added.err, 'integer', 1, true) or string.find(added.err, 'overflow', 1, true)
    return wrong and WRONG_TYPE or added
  end
  sum = redis.call('HGET', KEYS[2], name)
  if old then redis.call('HSET', KEYS[2], name, old) else redis.call('HDEL', KEYS[2], name) end
else
  local double = tonumber(before) + tonumber(amount)
  if double ~= double or double == math.huge or double == -math.huge then return WRONG_TYPE end
  sum = string.format('%.17g', double)
  if string.match(sum, INTEGER) then sum = sum .. '.0' end
end
if not put(session, now, name, sum, tonumber(ARGV[2])) then return TOO_LARGE end
return {sum}
